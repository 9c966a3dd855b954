# Usage:
# 1) Copy this to ~/.config/fish/completions/kmsconn.fish
# 2) Ensure a binary named kmsconn is in your PATH
# See also: https://fishshell.com/docs/current/completions.html#where-to-put-completions


# Parse current commandline:
# - _shtab_kmsconn_cmdpath=(sub)command path seen so far
# - _shtab_kmsconn_npos=number of positional arguments given after it
# - options are skipped based on _shtab_kmsconn_opts_with_value & _shtab_kmsconn_commands lists
function _shtab_kmsconn_scan
  set -g _shtab_kmsconn_cmdpath ''
  set -g _shtab_kmsconn_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_kmsconn_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_kmsconn_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_kmsconn_cmdpath"
            set candidate "$_shtab_kmsconn_cmdpath $t"
          end
          if contains -- $candidate $_shtab_kmsconn_commands
            set -g _shtab_kmsconn_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_kmsconn_npos (math $_shtab_kmsconn_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_kmsconn_using
  _shtab_kmsconn_scan
  test "$_shtab_kmsconn_cmdpath" = "$argv"
end

set -g _shtab_kmsconn_commands run start validate doctor config 'config explain' 'config import' health status explain audit 'audit verify' 'audit export' requests 'requests list' 'requests show' 'requests retry' top quarantine 'quarantine list' 'quarantine show' 'quarantine retry' 'quarantine drop' pause resume skip replay list emulate demo completion
set -g _shtab_kmsconn_opts_with_value --cause --ciphertexts --computing --config --control --core --duration --endpoint --forms --head --history --kind --kinds --limit --members --name --network --output --params --profile --rate --reason --requests --seed --shards --signer --since --size --socket --state --token-file --until --url --write-config -c -e -n -o

complete -c kmsconn -e
complete -c kmsconn -f

complete -c kmsconn -n _shtab_kmsconn_using -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n _shtab_kmsconn_using -l version -d 'show program'"'"'s version number and exit'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a run -d 'run the connector until SIGTERM or SIGINT'
complete -c kmsconn -n '_shtab_kmsconn_using run' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using run' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using run' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using run' -s n -l name -x -d 'service name; overrides all other sources'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a start -d 'run the connector until SIGTERM or SIGINT'
complete -c kmsconn -n '_shtab_kmsconn_using start' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using start' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using start' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using start' -s n -l name -x -d 'service name; overrides all other sources'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a validate -d 'check the configuration without starting anything'
complete -c kmsconn -n '_shtab_kmsconn_using validate' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using validate' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using validate' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a doctor -d 'examine everything that the configuration names, and say what is wrong and what to do'
complete -c kmsconn -n '_shtab_kmsconn_using doctor' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using doctor' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using doctor' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using doctor' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using doctor' -l ask-core -d 'hand one recent public request over to a Core that has no result to read, to learn its signer'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a config -d 'explain the configuration, or make one file of those of the three services of 0.14'
complete -c kmsconn -n '_shtab_kmsconn_using config' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using config; and test $_shtab_kmsconn_npos -eq 0' -a explain -d 'print each option with its value, its source and its variable'
complete -c kmsconn -n '_shtab_kmsconn_using config explain' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using config explain' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using config explain' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using config explain' -l all -d 'also print options that have their default'
complete -c kmsconn -n '_shtab_kmsconn_using config; and test $_shtab_kmsconn_npos -eq 0' -a import -d 'merge gw-listener.toml, kms-worker.toml and tx-sender.toml'
complete -c kmsconn -n '_shtab_kmsconn_using config import' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using config import' -s o -l output -x -d 'where to write; has mode 0600, since it may hold the key'
complete -c kmsconn -n '_shtab_kmsconn_using config import' -l force -d 'overwrite that file'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a health -d 'ask a running connector whether it is healthy'
complete -c kmsconn -n '_shtab_kmsconn_using health' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using health' -s e -l endpoint -x -d 'what to ask; without it /healthz at the address of KMS_CONNECTOR_MONITORING_ENDPOINT (0.0.0.0:9100)'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a status -d 'show how the connector is, on one screen'
complete -c kmsconn -n '_shtab_kmsconn_using status' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using status' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using status' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using status' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using status' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a explain -d 'tell what became of a request, what it waits for and what comes next'
complete -c kmsconn -n '_shtab_kmsconn_using explain' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using explain' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using explain' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using explain' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using explain' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a audit -d 'verify or export an audit log'
complete -c kmsconn -n '_shtab_kmsconn_using audit' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using audit; and test $_shtab_kmsconn_npos -eq 0' -a verify -d 'check that no line was changed, removed, inserted or moved'
complete -c kmsconn -n '_shtab_kmsconn_using audit verify' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using audit verify' -l head -x -d 'a hash that a line of the log must have'
complete -c kmsconn -n '_shtab_kmsconn_using audit; and test $_shtab_kmsconn_npos -eq 0' -a export -d 'print the transitions of requests'
complete -c kmsconn -n '_shtab_kmsconn_using audit export' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using audit export' -l since -x -d 'from this time on, ISO 8601, UTC without an offset'
complete -c kmsconn -n '_shtab_kmsconn_using audit export' -l until -x -d 'before this time'
complete -c kmsconn -n '_shtab_kmsconn_using audit export' -l kind -x -d 'of this kind, such as user_decryption; several times'
complete -c kmsconn -n '_shtab_kmsconn_using audit export' -l json -d 'print one JSON object a line (the default)'
complete -c kmsconn -n '_shtab_kmsconn_using audit export' -l csv -d 'print CSV with a line of headings'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a requests -d 'list, show or retry requests'
complete -c kmsconn -n '_shtab_kmsconn_using requests' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using requests; and test $_shtab_kmsconn_npos -eq 0' -a list -d 'list requests, the newest first'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -l kind -x -d 'of this kind, such as user_decryption; several times'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -l state -x -d 'in this state: pending, answered, signed, included, finalized, expired, rejected, quarantined, done, aborted; failed means rejected, expired or quarantined; several times'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -l cause -x -d 'whose reason contains this text'
complete -c kmsconn -n '_shtab_kmsconn_using requests list' -l limit -x -d 'maximum number, up to 1000 (100)'
complete -c kmsconn -n '_shtab_kmsconn_using requests; and test $_shtab_kmsconn_npos -eq 0' -a show -d 'show a request with all its fields'
complete -c kmsconn -n '_shtab_kmsconn_using requests show' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using requests show' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using requests show' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using requests show' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using requests show' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using requests; and test $_shtab_kmsconn_npos -eq 0' -a retry -d 'retry rejected, expired and quarantined requests'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -l kind -x -d 'of this kind, such as user_decryption; several times'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -l state -x -d 'in this state: pending, answered, signed, included, finalized, expired, rejected, quarantined, done, aborted; failed means rejected, expired or quarantined; several times'
complete -c kmsconn -n '_shtab_kmsconn_using requests retry' -l cause -x -d 'whose reason contains this text'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a top -d 'show a running connector in the terminal, live'
complete -c kmsconn -n '_shtab_kmsconn_using top' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using top' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using top' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using top' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using top' -l url -x -d 'the monitoring address of a connector that serves the status page'
complete -c kmsconn -n '_shtab_kmsconn_using top' -l token-file -x -d 'the token for that address, where it wants one'
complete -c kmsconn -n '_shtab_kmsconn_using top' -l once -d 'print the status once and end'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a quarantine -d 'list, show, retry or drop undecodable logs and quarantined requests'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine; and test $_shtab_kmsconn_npos -eq 0' -a list -d 'list undecodable logs and quarantined requests, the newest first'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine list' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine list' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine list' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine list' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine list' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine list' -l limit -x -d 'maximum number of each, up to 1000 (100)'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine; and test $_shtab_kmsconn_npos -eq 0' -a show -d 'show one with its bytes, and what this version reads in it'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine show' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine show' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine show' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine show' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine show' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine; and test $_shtab_kmsconn_npos -eq 0' -a retry -d 'decode a log again and record its request, or let a request begin again'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine retry' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine retry' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine retry' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine retry' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine retry' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine; and test $_shtab_kmsconn_npos -eq 0' -a drop -d 'delete a log, or end a request for good'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine drop' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine drop' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine drop' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine drop' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine drop' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using quarantine drop' -l reason -x -d 'why; needed for a request'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a pause -d 'stop working on a kind of requests, also after a restart'
complete -c kmsconn -n '_shtab_kmsconn_using pause' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using pause' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using pause' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using pause' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using pause' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using pause' -l reason -x -d 'why; shown by status, health and the alert'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a resume -d 'work on a paused kind of requests again'
complete -c kmsconn -n '_shtab_kmsconn_using resume' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using resume' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using resume' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using resume' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using resume' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a skip -d 'end a request for good'
complete -c kmsconn -n '_shtab_kmsconn_using skip' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using skip' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using skip' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using skip' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using skip' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using skip' -l reason -x -d 'why; kept with the request'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a replay -d 'compare the reply to a request with what its recorded inputs give now'
complete -c kmsconn -n '_shtab_kmsconn_using replay' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using replay' -s c -l config -x -d 'TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it'
complete -c kmsconn -n '_shtab_kmsconn_using replay' -l network -xka "testnet mainnet devnet" -d 'use chain ids and addresses of a known deployment; file and environment override them'
complete -c kmsconn -n '_shtab_kmsconn_using replay' -l socket -x -d 'the control socket of a running connector; no configuration is read'
complete -c kmsconn -n '_shtab_kmsconn_using replay' -l json -d 'print one JSON object'
complete -c kmsconn -n '_shtab_kmsconn_using replay' -l dry-run -d 'compare what the journal keeps, and do not ask the Core'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a list -d 'list the configuration files of KMS_CONNECTOR_CONFIG_DIR, or of config/environments'
complete -c kmsconn -n '_shtab_kmsconn_using list' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using list' -s f -l full-path -d 'print paths instead of names'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a emulate -d 'serve emulated chains, Core and buckets under a load, and write the configuration of their connector'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l profile -xka "fhevm-0.14 httpz-rc7" -d 'the generation (fhevm-0.14)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l kinds -xka "decryptions all" -d 'decryptions, or all: also a key lifecycle of fhevm-0.14 (decryptions)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l write-config -x -d 'path of the connector configuration to write; of a committee one for each member: FILE-1, FILE-2, …'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l rate -x -d 'requests per second; 0: none, until a signal (10; 0 with --core and no --ciphertexts)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l duration -x -d 'seconds of requests (60)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l size -x -d 'bytes of each ciphertext (1024)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l seed -x -d 'the same seed makes the same requests (0)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l shards -x -d 'number of Cores that share the requests (1)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l members -x -d 'number of nodes of the committee: 1, 4, 7, 10, …; 2t+1 of 3t+1 must agree (1)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l core -x -d 'a real Core in place of the emulated one, once for each member; it is led through announcement, key, CRS, context and epoch before any request (--kinds decryptions: it is not)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l signer -x -d 'the address with which that Core signs, once for each --core'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l params -xka "default test" -d 'FHE parameters of the keys that are made (default)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l ciphertexts -x -d 'JSON list of ready-made ciphertexts: path, type, value, format, key_id; public plaintexts are compared with the values'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l computing -x -d 'time of a Core for an answer (0)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l forms -x -d 'forms of requests, in turn: public, delegated; direct, unified, unified_delegated, wallet of fhevm-0.14; user of httpz-rc7 (all, drawn by chance)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l history -x -d 'how long the emulator keeps Gateway blocks, to limit memory in a long run (for ever)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l control -x -d 'loopback port for status, loads and faults by HTTP (none)'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l log -d 'print a line for each request and each call of a Core on standard error'
complete -c kmsconn -n '_shtab_kmsconn_using emulate' -l json -d 'end with one JSON object instead of text'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a demo -d 'run a connector with emulated dependencies in one process'
complete -c kmsconn -n '_shtab_kmsconn_using demo' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using demo' -l profile -xka "fhevm-0.14 httpz-rc7" -d 'the generation (fhevm-0.14)'
complete -c kmsconn -n '_shtab_kmsconn_using demo' -l kinds -xka "decryptions all" -d 'decryptions, or all: also a key lifecycle of fhevm-0.14 (decryptions)'
complete -c kmsconn -n '_shtab_kmsconn_using demo' -l requests -x -d 'how many requests (40; 300 with --kinds all)'
complete -c kmsconn -n '_shtab_kmsconn_using demo' -l rate -x -d 'requests per second (10)'
complete -c kmsconn -n '_shtab_kmsconn_using demo' -l seed -x -d 'the same seed makes the same requests (0)'
complete -c kmsconn -n '_shtab_kmsconn_using demo' -l json -d 'print one JSON object and nothing else'
complete -c kmsconn -n '_shtab_kmsconn_using; and test $_shtab_kmsconn_npos -eq 0' -a completion -d 'print what makes a shell complete the commands'
complete -c kmsconn -n '_shtab_kmsconn_using completion' -s h -l help -d 'show this help message and exit'
complete -c kmsconn -n '_shtab_kmsconn_using completion; and test $_shtab_kmsconn_npos -eq 0' -ka "bash zsh fish" -d 'the shell that completes'

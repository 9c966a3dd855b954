#compdef kmsconn

# Usage:
# 1) Copy this to a file named _kmsconn (e.g. ~/.local/share/zsh_completion/_kmsconn).
# 2) Add the following line to your .zshrc:
#    fpath=(~/.local/share/zsh_completion $fpath)
# See also: https://github.com/zsh-users/zsh-completions/blob/master/zsh-completions-howto.org


_shtab_kmsconn_commands() {
  local _commands=(
    audit:'verify or export an audit log'
    completion:'print what makes a shell complete the commands'
    config:'explain the configuration, or make one file of those of the three services of 0.14'
    demo:'run a connector with emulated dependencies in one process'
    doctor:'examine everything that the configuration names, and say what is wrong and what to do'
    emulate:'serve emulated chains, Core and buckets under a load, and write the configuration of their connector'
    explain:'tell what became of a request, what it waits for and what comes next'
    health:'ask a running connector whether it is healthy'
    list:'list the configuration files of KMS_CONNECTOR_CONFIG_DIR, or of config/environments'
    pause:'stop working on a kind of requests, also after a restart'
    quarantine:'list, show, retry or drop undecodable logs and quarantined requests'
    replay:'compare the reply to a request with what its recorded inputs give now'
    requests:'list, show or retry requests'
    resume:'work on a paused kind of requests again'
    run:'run the connector until SIGTERM or SIGINT'
    skip:'end a request for good'
    start:'run the connector until SIGTERM or SIGINT'
    status:'show how the connector is, on one screen'
    top:'show a running connector in the terminal, live'
    validate:'check the configuration without starting anything'
  )
  _describe 'kmsconn commands' _commands
}

_shtab_kmsconn_audit_commands() {
  local _commands=(
    export:'print the transitions of requests'
    verify:'check that no line was changed, removed, inserted or moved'
  )
  _describe 'kmsconn audit commands' _commands
}

_shtab_kmsconn_config_commands() {
  local _commands=(
    explain:'print each option with its value, its source and its variable'
    import:'merge gw-listener.toml, kms-worker.toml and tx-sender.toml'
  )
  _describe 'kmsconn config commands' _commands
}

_shtab_kmsconn_quarantine_commands() {
  local _commands=(
    drop:'delete a log, or end a request for good'
    list:'list undecodable logs and quarantined requests, the newest first'
    retry:'decode a log again and record its request, or let a request begin again'
    show:'show one with its bytes, and what this version reads in it'
  )
  _describe 'kmsconn quarantine commands' _commands
}

_shtab_kmsconn_requests_commands() {
  local _commands=(
    list:'list requests, the newest first'
    retry:'retry rejected, expired and quarantined requests'
    show:'show a request with all its fields'
  )
  _describe 'kmsconn requests commands' _commands
}

_shtab_kmsconn_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "(- : *)--version[show program\'s version number and exit]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_defaults_added=0

_shtab_kmsconn_audit_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_audit_defaults_added=0

_shtab_kmsconn_audit_export_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--since[from this time on, ISO 8601, UTC without an offset]:TIME:"
  "--until[before this time]:TIME:"
  "*--kind[of this kind, such as user_decryption\; several times]:KIND:"
  "--json[print one JSON object a line (the default)]"
  "--csv[print CSV with a line of headings]"
  "(*):the files of one audit log, the oldest first:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_audit_export_defaults_added=0

_shtab_kmsconn_audit_verify_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--head[a hash that a line of the log must have]:SHA256:"
  "(*):the files of one audit log, the oldest first:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_audit_verify_defaults_added=0

_shtab_kmsconn_completion_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  ":the shell that completes:(bash zsh fish)"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_completion_defaults_added=0

_shtab_kmsconn_config_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_config_defaults_added=0

_shtab_kmsconn_config_explain_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--all[also print options that have their default]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_config_explain_defaults_added=0

_shtab_kmsconn_config_import_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-o,--output}"[where to write\; has mode 0600, since it may hold the key]:FILE:"
  "--force[overwrite that file]"
  "(*):a file of the three services of 0.14:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_config_import_defaults_added=0

_shtab_kmsconn_demo_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--profile[the generation (fhevm-0.14)]:profile:(fhevm-0.14 httpz-rc7)"
  "--kinds[decryptions, or all\: also a key lifecycle of fhevm-0.14 (decryptions)]:kinds:(decryptions all)"
  "--requests[how many requests (40\; 300 with --kinds all)]:N:"
  "--rate[requests per second (10)]:R:"
  "--seed[the same seed makes the same requests (0)]:N:"
  "--json[print one JSON object and nothing else]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_demo_defaults_added=0

_shtab_kmsconn_doctor_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--json[print one JSON object]"
  "--ask-core[hand one recent public request over to a Core that has no result to read, to learn its signer]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_doctor_defaults_added=0

_shtab_kmsconn_emulate_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--profile[the generation (fhevm-0.14)]:profile:(fhevm-0.14 httpz-rc7)"
  "--kinds[decryptions, or all\: also a key lifecycle of fhevm-0.14 (decryptions)]:kinds:(decryptions all)"
  "--write-config[path of the connector configuration to write\; of a committee one for each member\: FILE-1, FILE-2, \…]:FILE:"
  "--rate[requests per second\; 0\: none, until a signal (10\; 0 with --core and no --ciphertexts)]:R:"
  "--duration[seconds of requests (60)]:S:"
  "--size[bytes of each ciphertext (1024)]:BYTES:"
  "--seed[the same seed makes the same requests (0)]:N:"
  "--shards[number of Cores that share the requests (1)]:N:"
  "--members[number of nodes of the committee\: 1, 4, 7, 10, \…\; 2t\+1 of 3t\+1 must agree (1)]:N:"
  "*--core[a real Core in place of the emulated one, once for each member\; it is led through announcement, key, CRS, context and epoch before any request (--kinds decryptions\: it is not)]:URL:"
  "*--signer[the address with which that Core signs, once for each --core]:ADDRESS:"
  "--params[FHE parameters of the keys that are made (default)]:params:(default test)"
  "--ciphertexts[JSON list of ready-made ciphertexts\: path, type, value, format, key_id\; public plaintexts are compared with the values]:FILE:"
  "--computing[time of a Core for an answer (0)]:SECONDS:"
  "--forms[forms of requests, in turn\: public, delegated\; direct, unified, unified_delegated, wallet of fhevm-0.14\; user of httpz-rc7 (all, drawn by chance)]:FORM:"
  "--history[how long the emulator keeps Gateway blocks, to limit memory in a long run (for ever)]:SECONDS:"
  "--control[loopback port for status, loads and faults by HTTP (none)]:PORT:"
  "--log[print a line for each request and each call of a Core on standard error]"
  "--json[end with one JSON object instead of text]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_emulate_defaults_added=0

_shtab_kmsconn_explain_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  ":on-chain id with 0x, or row number of the journal:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_explain_defaults_added=0

_shtab_kmsconn_health_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-e,--endpoint}"[what to ask\; without it \/healthz at the address of KMS_CONNECTOR_MONITORING_ENDPOINT (0.0.0.0\:9100)]:URL:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_health_defaults_added=0

_shtab_kmsconn_list_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-f,--full-path}"[print paths instead of names]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_list_defaults_added=0

_shtab_kmsconn_pause_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  "--reason[why\; shown by status, health and the alert]:TEXT:"
  ":kind of requests, such as user_decryption:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_pause_defaults_added=0

_shtab_kmsconn_quarantine_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_quarantine_defaults_added=0

_shtab_kmsconn_quarantine_drop_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  "--reason[why\; needed for a request]:TEXT:"
  ":a log as \`list\` names it, 0x\…\:INDEX\; or the on-chain id with 0x, or row number, of a request:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_quarantine_drop_defaults_added=0

_shtab_kmsconn_quarantine_list_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  "--limit[maximum number of each, up to 1000 (100)]:N:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_quarantine_list_defaults_added=0

_shtab_kmsconn_quarantine_retry_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  ":a log as \`list\` names it, 0x\…\:INDEX\; or the on-chain id with 0x, or row number, of a request:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_quarantine_retry_defaults_added=0

_shtab_kmsconn_quarantine_show_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  ":a log as \`list\` names it, 0x\…\:INDEX\; or the on-chain id with 0x, or row number, of a request:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_quarantine_show_defaults_added=0

_shtab_kmsconn_replay_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  "--dry-run[compare what the journal keeps, and do not ask the Core]"
  ":on-chain id with 0x, or row number of the journal:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_replay_defaults_added=0

_shtab_kmsconn_requests_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_requests_defaults_added=0

_shtab_kmsconn_requests_list_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  "*--kind[of this kind, such as user_decryption\; several times]:KIND:"
  "*--state[in this state\: pending, answered, signed, included, finalized, expired, rejected, quarantined, done, aborted\; failed means rejected, expired or quarantined\; several times]:STATE:"
  "--cause[whose reason contains this text]:TEXT:"
  "--limit[maximum number, up to 1000 (100)]:N:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_requests_list_defaults_added=0

_shtab_kmsconn_requests_retry_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  "*--kind[of this kind, such as user_decryption\; several times]:KIND:"
  "*--state[in this state\: pending, answered, signed, included, finalized, expired, rejected, quarantined, done, aborted\; failed means rejected, expired or quarantined\; several times]:STATE:"
  "--cause[whose reason contains this text]:TEXT:"
  "(*)::on-chain id with 0x, or row number of the journal:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_requests_retry_defaults_added=0

_shtab_kmsconn_requests_show_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  ":on-chain id with 0x, or row number of the journal:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_requests_show_defaults_added=0

_shtab_kmsconn_resume_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  ":kind of requests, such as user_decryption:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_resume_defaults_added=0

_shtab_kmsconn_run_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  {-n,--name}"[service name\; overrides all other sources]:NAME:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_run_defaults_added=0

_shtab_kmsconn_skip_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
  "--reason[why\; kept with the request]:TEXT:"
  ":on-chain id with 0x, or row number of the journal:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_skip_defaults_added=0

_shtab_kmsconn_start_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  {-n,--name}"[service name\; overrides all other sources]:NAME:"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_start_defaults_added=0

_shtab_kmsconn_status_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--json[print one JSON object]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_status_defaults_added=0

_shtab_kmsconn_top_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
  "--socket[the control socket of a running connector\; no configuration is read]:PATH:"
  "--url[the monitoring address of a connector that serves the status page]:URL:"
  "--token-file[the token for that address, where it wants one]:PATH:"
  "--once[print the status once and end]"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_top_defaults_added=0

_shtab_kmsconn_validate_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-c,--config}"[TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR\; variables KMS_CONNECTOR_\… override it and may replace it]:FILE:"
  "--network[use chain ids and addresses of a known deployment\; file and environment override them]:network:(testnet mainnet devnet)"
)

# guard to ensure default positional specs are added only once per session
_shtab_kmsconn_validate_defaults_added=0


_shtab_kmsconn() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->kmsconn'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_kmsconn_defaults_added )); then
    if (( ${_shtab_kmsconn_options[(I)${(q)one_or_more}*]} +          ${_shtab_kmsconn_options[(I)${(q)remainder}*]} +          ${_shtab_kmsconn_options[(I)${(q)default}]} == 0 )); then
      _shtab_kmsconn_options+=(': :_shtab_kmsconn_commands' '*::: :->kmsconn')
    fi
    _shtab_kmsconn_defaults_added=1
  fi
  _arguments -C -s $_shtab_kmsconn_options

  case $state in
    kmsconn)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_kmsconn-$line[1]:"
      case $line[1] in
        audit) _shtab_kmsconn_audit ;;
        completion) _arguments -C -s $_shtab_kmsconn_completion_options ;;
        config) _shtab_kmsconn_config ;;
        demo) _arguments -C -s $_shtab_kmsconn_demo_options ;;
        doctor) _arguments -C -s $_shtab_kmsconn_doctor_options ;;
        emulate) _arguments -C -s $_shtab_kmsconn_emulate_options ;;
        explain) _arguments -C -s $_shtab_kmsconn_explain_options ;;
        health) _arguments -C -s $_shtab_kmsconn_health_options ;;
        list) _arguments -C -s $_shtab_kmsconn_list_options ;;
        pause) _arguments -C -s $_shtab_kmsconn_pause_options ;;
        quarantine) _shtab_kmsconn_quarantine ;;
        replay) _arguments -C -s $_shtab_kmsconn_replay_options ;;
        requests) _shtab_kmsconn_requests ;;
        resume) _arguments -C -s $_shtab_kmsconn_resume_options ;;
        run) _arguments -C -s $_shtab_kmsconn_run_options ;;
        skip) _arguments -C -s $_shtab_kmsconn_skip_options ;;
        start) _arguments -C -s $_shtab_kmsconn_start_options ;;
        status) _arguments -C -s $_shtab_kmsconn_status_options ;;
        top) _arguments -C -s $_shtab_kmsconn_top_options ;;
        validate) _arguments -C -s $_shtab_kmsconn_validate_options ;;
      esac
  esac
}

_shtab_kmsconn_audit() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->audit'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_kmsconn_audit_defaults_added )); then
    if (( ${_shtab_kmsconn_audit_options[(I)${(q)one_or_more}*]} +          ${_shtab_kmsconn_audit_options[(I)${(q)remainder}*]} +          ${_shtab_kmsconn_audit_options[(I)${(q)default}]} == 0 )); then
      _shtab_kmsconn_audit_options+=(': :_shtab_kmsconn_audit_commands' '*::: :->audit')
    fi
    _shtab_kmsconn_audit_defaults_added=1
  fi
  _arguments -C -s $_shtab_kmsconn_audit_options

  case $state in
    audit)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_kmsconn_audit-$line[1]:"
      case $line[1] in
        export) _arguments -C -s $_shtab_kmsconn_audit_export_options ;;
        verify) _arguments -C -s $_shtab_kmsconn_audit_verify_options ;;
      esac
  esac
}

_shtab_kmsconn_config() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->config'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_kmsconn_config_defaults_added )); then
    if (( ${_shtab_kmsconn_config_options[(I)${(q)one_or_more}*]} +          ${_shtab_kmsconn_config_options[(I)${(q)remainder}*]} +          ${_shtab_kmsconn_config_options[(I)${(q)default}]} == 0 )); then
      _shtab_kmsconn_config_options+=(': :_shtab_kmsconn_config_commands' '*::: :->config')
    fi
    _shtab_kmsconn_config_defaults_added=1
  fi
  _arguments -C -s $_shtab_kmsconn_config_options

  case $state in
    config)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_kmsconn_config-$line[1]:"
      case $line[1] in
        explain) _arguments -C -s $_shtab_kmsconn_config_explain_options ;;
        import) _arguments -C -s $_shtab_kmsconn_config_import_options ;;
      esac
  esac
}

_shtab_kmsconn_quarantine() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->quarantine'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_kmsconn_quarantine_defaults_added )); then
    if (( ${_shtab_kmsconn_quarantine_options[(I)${(q)one_or_more}*]} +          ${_shtab_kmsconn_quarantine_options[(I)${(q)remainder}*]} +          ${_shtab_kmsconn_quarantine_options[(I)${(q)default}]} == 0 )); then
      _shtab_kmsconn_quarantine_options+=(': :_shtab_kmsconn_quarantine_commands' '*::: :->quarantine')
    fi
    _shtab_kmsconn_quarantine_defaults_added=1
  fi
  _arguments -C -s $_shtab_kmsconn_quarantine_options

  case $state in
    quarantine)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_kmsconn_quarantine-$line[1]:"
      case $line[1] in
        drop) _arguments -C -s $_shtab_kmsconn_quarantine_drop_options ;;
        list) _arguments -C -s $_shtab_kmsconn_quarantine_list_options ;;
        retry) _arguments -C -s $_shtab_kmsconn_quarantine_retry_options ;;
        show) _arguments -C -s $_shtab_kmsconn_quarantine_show_options ;;
      esac
  esac
}

_shtab_kmsconn_requests() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->requests'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_kmsconn_requests_defaults_added )); then
    if (( ${_shtab_kmsconn_requests_options[(I)${(q)one_or_more}*]} +          ${_shtab_kmsconn_requests_options[(I)${(q)remainder}*]} +          ${_shtab_kmsconn_requests_options[(I)${(q)default}]} == 0 )); then
      _shtab_kmsconn_requests_options+=(': :_shtab_kmsconn_requests_commands' '*::: :->requests')
    fi
    _shtab_kmsconn_requests_defaults_added=1
  fi
  _arguments -C -s $_shtab_kmsconn_requests_options

  case $state in
    requests)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_kmsconn_requests-$line[1]:"
      case $line[1] in
        list) _arguments -C -s $_shtab_kmsconn_requests_list_options ;;
        retry) _arguments -C -s $_shtab_kmsconn_requests_retry_options ;;
        show) _arguments -C -s $_shtab_kmsconn_requests_show_options ;;
      esac
  esac
}



typeset -A opt_args

if [[ $zsh_eval_context[-1] == eval ]]; then
  # eval/source/. command, register function for later
  compdef _shtab_kmsconn -N kmsconn
else
  # autoload from fpath, call function directly
  _shtab_kmsconn "$@"
fi

# Usage:
# 1) Copy this to somewhere (e.g. ~/.local/share/bash_completion/kmsconn).
# 2) Add the following line to your .bashrc:
#    source ~/.local/share/bash_completion/kmsconn
# See also: https://github.com/scop/bash-completion/blob/main/doc/configuration.md

_shtab_kmsconn_config_subparsers=(explain import)
_shtab_kmsconn_audit_subparsers=(verify export)
_shtab_kmsconn_requests_subparsers=(list show retry)
_shtab_kmsconn_quarantine_subparsers=(list show retry drop)
_shtab_kmsconn_subparsers=(run start validate doctor config health status explain audit requests top quarantine pause resume skip replay list emulate demo completion)

_shtab_kmsconn_run_option_strings=(-h --help -c --config --network -n --name)
_shtab_kmsconn_start_option_strings=(-h --help -c --config --network -n --name)
_shtab_kmsconn_validate_option_strings=(-h --help -c --config --network)
_shtab_kmsconn_doctor_option_strings=(-h --help -c --config --network --json --ask-core)
_shtab_kmsconn_config_explain_option_strings=(-h --help -c --config --network --all)
_shtab_kmsconn_config_import_option_strings=(-h --help -o --output --force)
_shtab_kmsconn_config_option_strings=(-h --help)
_shtab_kmsconn_health_option_strings=(-h --help -e --endpoint)
_shtab_kmsconn_status_option_strings=(-h --help -c --config --network --socket --json)
_shtab_kmsconn_explain_option_strings=(-h --help -c --config --network --socket --json)
_shtab_kmsconn_audit_verify_option_strings=(-h --help --head)
_shtab_kmsconn_audit_export_option_strings=(-h --help --since --until --kind --json --csv)
_shtab_kmsconn_audit_option_strings=(-h --help)
_shtab_kmsconn_requests_list_option_strings=(-h --help -c --config --network --socket --json --kind --state --cause --limit)
_shtab_kmsconn_requests_show_option_strings=(-h --help -c --config --network --socket --json)
_shtab_kmsconn_requests_retry_option_strings=(-h --help -c --config --network --socket --json --kind --state --cause)
_shtab_kmsconn_requests_option_strings=(-h --help)
_shtab_kmsconn_top_option_strings=(-h --help -c --config --network --socket --url --token-file --once)
_shtab_kmsconn_quarantine_list_option_strings=(-h --help -c --config --network --socket --json --limit)
_shtab_kmsconn_quarantine_show_option_strings=(-h --help -c --config --network --socket --json)
_shtab_kmsconn_quarantine_retry_option_strings=(-h --help -c --config --network --socket --json)
_shtab_kmsconn_quarantine_drop_option_strings=(-h --help -c --config --network --socket --json --reason)
_shtab_kmsconn_quarantine_option_strings=(-h --help)
_shtab_kmsconn_pause_option_strings=(-h --help -c --config --network --socket --json --reason)
_shtab_kmsconn_resume_option_strings=(-h --help -c --config --network --socket --json)
_shtab_kmsconn_skip_option_strings=(-h --help -c --config --network --socket --json --reason)
_shtab_kmsconn_replay_option_strings=(-h --help -c --config --network --socket --json --dry-run)
_shtab_kmsconn_list_option_strings=(-h --help -f --full-path)
_shtab_kmsconn_emulate_option_strings=(-h --help --profile --kinds --write-config --rate --duration --size --seed --shards --members --core --signer --params --ciphertexts --computing --forms --history --control --log --json)
_shtab_kmsconn_demo_option_strings=(-h --help --profile --kinds --requests --rate --seed --json)
_shtab_kmsconn_completion_option_strings=(-h --help)
_shtab_kmsconn_option_strings=(-h --help --version)



_shtab_kmsconn_run___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_start___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_validate___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_doctor___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_config_explain___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_config_pos_0_choices=(explain import)
_shtab_kmsconn_status___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_explain___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_audit_pos_0_choices=(verify export)
_shtab_kmsconn_requests_list___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_requests_show___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_requests_retry___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_requests_pos_0_choices=(list show retry)
_shtab_kmsconn_top___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_quarantine_list___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_quarantine_show___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_quarantine_retry___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_quarantine_drop___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_quarantine_pos_0_choices=(list show retry drop)
_shtab_kmsconn_pause___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_resume___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_skip___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_replay___network_choices=(testnet mainnet devnet)
_shtab_kmsconn_emulate___profile_choices=(fhevm-0.14 httpz-rc7)
_shtab_kmsconn_emulate___kinds_choices=(decryptions all)
_shtab_kmsconn_emulate___params_choices=(default test)
_shtab_kmsconn_demo___profile_choices=(fhevm-0.14 httpz-rc7)
_shtab_kmsconn_demo___kinds_choices=(decryptions all)
_shtab_kmsconn_completion_pos_0_choices=(bash zsh fish)
_shtab_kmsconn_pos_0_choices=(run start validate doctor config health status explain audit requests top quarantine pause resume skip replay list emulate demo completion)

_shtab_kmsconn_run__h_nargs=0
_shtab_kmsconn_run___help_nargs=0
_shtab_kmsconn_start__h_nargs=0
_shtab_kmsconn_start___help_nargs=0
_shtab_kmsconn_validate__h_nargs=0
_shtab_kmsconn_validate___help_nargs=0
_shtab_kmsconn_doctor__h_nargs=0
_shtab_kmsconn_doctor___help_nargs=0
_shtab_kmsconn_doctor___json_nargs=0
_shtab_kmsconn_doctor___ask_core_nargs=0
_shtab_kmsconn_config_explain__h_nargs=0
_shtab_kmsconn_config_explain___help_nargs=0
_shtab_kmsconn_config_explain___all_nargs=0
_shtab_kmsconn_config_import_pos_0_nargs=+
_shtab_kmsconn_config_import__h_nargs=0
_shtab_kmsconn_config_import___help_nargs=0
_shtab_kmsconn_config_import___force_nargs=0
_shtab_kmsconn_config_pos_0_nargs=A...
_shtab_kmsconn_config__h_nargs=0
_shtab_kmsconn_config___help_nargs=0
_shtab_kmsconn_health__h_nargs=0
_shtab_kmsconn_health___help_nargs=0
_shtab_kmsconn_status__h_nargs=0
_shtab_kmsconn_status___help_nargs=0
_shtab_kmsconn_status___json_nargs=0
_shtab_kmsconn_explain__h_nargs=0
_shtab_kmsconn_explain___help_nargs=0
_shtab_kmsconn_explain___json_nargs=0
_shtab_kmsconn_audit_verify_pos_0_nargs=+
_shtab_kmsconn_audit_verify__h_nargs=0
_shtab_kmsconn_audit_verify___help_nargs=0
_shtab_kmsconn_audit_export_pos_0_nargs=+
_shtab_kmsconn_audit_export__h_nargs=0
_shtab_kmsconn_audit_export___help_nargs=0
_shtab_kmsconn_audit_export___json_nargs=0
_shtab_kmsconn_audit_export___csv_nargs=0
_shtab_kmsconn_audit_pos_0_nargs=A...
_shtab_kmsconn_audit__h_nargs=0
_shtab_kmsconn_audit___help_nargs=0
_shtab_kmsconn_requests_list__h_nargs=0
_shtab_kmsconn_requests_list___help_nargs=0
_shtab_kmsconn_requests_list___json_nargs=0
_shtab_kmsconn_requests_show__h_nargs=0
_shtab_kmsconn_requests_show___help_nargs=0
_shtab_kmsconn_requests_show___json_nargs=0
_shtab_kmsconn_requests_retry_pos_0_nargs='*'
_shtab_kmsconn_requests_retry__h_nargs=0
_shtab_kmsconn_requests_retry___help_nargs=0
_shtab_kmsconn_requests_retry___json_nargs=0
_shtab_kmsconn_requests_pos_0_nargs=A...
_shtab_kmsconn_requests__h_nargs=0
_shtab_kmsconn_requests___help_nargs=0
_shtab_kmsconn_top__h_nargs=0
_shtab_kmsconn_top___help_nargs=0
_shtab_kmsconn_top___once_nargs=0
_shtab_kmsconn_quarantine_list__h_nargs=0
_shtab_kmsconn_quarantine_list___help_nargs=0
_shtab_kmsconn_quarantine_list___json_nargs=0
_shtab_kmsconn_quarantine_show__h_nargs=0
_shtab_kmsconn_quarantine_show___help_nargs=0
_shtab_kmsconn_quarantine_show___json_nargs=0
_shtab_kmsconn_quarantine_retry__h_nargs=0
_shtab_kmsconn_quarantine_retry___help_nargs=0
_shtab_kmsconn_quarantine_retry___json_nargs=0
_shtab_kmsconn_quarantine_drop__h_nargs=0
_shtab_kmsconn_quarantine_drop___help_nargs=0
_shtab_kmsconn_quarantine_drop___json_nargs=0
_shtab_kmsconn_quarantine_pos_0_nargs=A...
_shtab_kmsconn_quarantine__h_nargs=0
_shtab_kmsconn_quarantine___help_nargs=0
_shtab_kmsconn_pause__h_nargs=0
_shtab_kmsconn_pause___help_nargs=0
_shtab_kmsconn_pause___json_nargs=0
_shtab_kmsconn_resume__h_nargs=0
_shtab_kmsconn_resume___help_nargs=0
_shtab_kmsconn_resume___json_nargs=0
_shtab_kmsconn_skip__h_nargs=0
_shtab_kmsconn_skip___help_nargs=0
_shtab_kmsconn_skip___json_nargs=0
_shtab_kmsconn_replay__h_nargs=0
_shtab_kmsconn_replay___help_nargs=0
_shtab_kmsconn_replay___json_nargs=0
_shtab_kmsconn_replay___dry_run_nargs=0
_shtab_kmsconn_list__h_nargs=0
_shtab_kmsconn_list___help_nargs=0
_shtab_kmsconn_list__f_nargs=0
_shtab_kmsconn_list___full_path_nargs=0
_shtab_kmsconn_emulate__h_nargs=0
_shtab_kmsconn_emulate___help_nargs=0
_shtab_kmsconn_emulate___forms_nargs=+
_shtab_kmsconn_emulate___log_nargs=0
_shtab_kmsconn_emulate___json_nargs=0
_shtab_kmsconn_demo__h_nargs=0
_shtab_kmsconn_demo___help_nargs=0
_shtab_kmsconn_demo___json_nargs=0
_shtab_kmsconn_completion__h_nargs=0
_shtab_kmsconn_completion___help_nargs=0
_shtab_kmsconn_pos_0_nargs=A...
_shtab_kmsconn__h_nargs=0
_shtab_kmsconn___help_nargs=0
_shtab_kmsconn___version_nargs=0


# $1=COMP_WORDS[1]
_shtab_compgen_files() {
  compgen -f -- $1  # files
}

# $1=COMP_WORDS[1]
_shtab_compgen_dirs() {
  compgen -d -- $1  # recurse into subdirs
}

# $1=COMP_WORDS[1]
_shtab_replace_nonword() {
  echo "${1//[^[:word:]]/_}"
}

# set default values (called for the initial parser & any subparsers)
_set_parser_defaults() {
  local subparsers_var="${prefix}_subparsers[@]"
  sub_parsers=${!subparsers_var-}

  local current_option_strings_var="${prefix}_option_strings[@]"
  current_option_strings=${!current_option_strings_var}

  completed_positional_actions=0

  _set_new_action "pos_$completed_positional_actions" true
}

# $1=action identifier
# $2=positional action (bool)
# set all identifiers for an action's parameters
_set_new_action() {
  current_action="${prefix}_$(_shtab_replace_nonword $1)"

  local current_action_compgen_var=${current_action}_COMPGEN
  current_action_compgen="${!current_action_compgen_var-}"

  local current_action_choices_var="${current_action}_choices[@]"
  current_action_choices="${!current_action_choices_var-}"

  local current_action_nargs_var="${current_action}_nargs"
  if [ -n "${!current_action_nargs_var-}" ]; then
    current_action_nargs="${!current_action_nargs_var}"
  else
    current_action_nargs=1
  fi

  current_action_args_start_index=$(( $word_index + 1 - $pos_only ))

  current_action_is_positional=$2
}

# Notes:
# `COMPREPLY`: what will be rendered after completion is triggered
# `completing_word`: currently typed word to generate completions for
# `${!var}`: evaluates the content of `var` and expand its content as a variable
#     hello="world"
#     x="hello"
#     ${!x} -> ${hello} -> "world"
_shtab_kmsconn() {
  local completing_word="${COMP_WORDS[COMP_CWORD]}"
  local previous_word="${COMP_WORDS[COMP_CWORD-1]}"
  local completed_positional_actions
  local current_action
  local current_action_args_start_index
  local current_action_choices
  local current_action_compgen
  local current_action_is_positional
  local current_action_nargs
  local current_option_strings
  local sub_parsers
  COMPREPLY=()

  local prefix=_shtab_kmsconn
  local word_index=0
  local pos_only=0 # "--" delimiter not encountered yet
  _set_parser_defaults
  word_index=1

  # determine what arguments are appropriate for the current state
  # of the arg parser
  while [ $word_index -ne $COMP_CWORD ]; do
    local this_word="${COMP_WORDS[$word_index]}"

    if [[ $pos_only = 1 || " $this_word " != " -- " ]]; then
      if [[ -n $sub_parsers && " ${sub_parsers[@]} " == *" $this_word "* ]]; then
        # valid subcommand: add it to the prefix & reset the current action
        prefix="${prefix}_$(_shtab_replace_nonword $this_word)"
        _set_parser_defaults
      fi

      if [[ " ${current_option_strings[@]} " == *" $this_word "* ]]; then
        # a new action should be acquired (due to recognised option string or
        # no more input expected from current action);
        # the next positional action can fill in here
        _set_new_action $this_word false
      fi

      if [[ "$current_action_nargs" != "*" ]] && \
         [[ "$current_action_nargs" != "+" ]] && \
         [[ "$current_action_nargs" != "?" ]] && \
         [[ "$current_action_nargs" != *"..." ]] && \
         (( $word_index + 1 - $current_action_args_start_index - $pos_only >= \
            $current_action_nargs )); then
        $current_action_is_positional && let "completed_positional_actions += 1"
        _set_new_action "pos_$completed_positional_actions" true
      fi
    else
      pos_only=1 # "--" delimiter encountered
    fi

    let "word_index+=1"
  done

  # Generate the completions

  COMPREPLY=()
  if [[ $pos_only = 0 && "$completing_word" == -* &&
        ( -z "$current_action_compgen" || "$current_action_is_positional" = true ) ]]; then
    # optional argument started: use option strings
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_option_strings[*]}" -- "$completing_word")
  elif [[ "$previous_word" =~ ^[0-9\&]*[\<\>]\>?$ ]]; then
    # handle redirection operators
    compopt -o filenames 2>/dev/null || : # bash>=4
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$completing_word")
  else
    # use choices & compgen
    local action_compgen_word="$completing_word"
    # handle tab-completing in the middle of a line (#248 <- #116)
    [[ -n "$current_action_compgen" && "$completing_word" == -* ]] && action_compgen_word=""
    [ -n "$current_action_compgen" ] && {
      [[ "$current_action_compgen" =~ _(file|dir|glob|FILE|DIR|GLOB)|File|Dir|Glob ]] &&
        compopt -o filenames 2>/dev/null || : # bash>=4
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        "$current_action_compgen" "$action_compgen_word")
    }
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_action_choices[*]}" -- "$completing_word")
  fi

  if [[ ${#COMPREPLY[@]} = 0 ]]; then
    # native fallback matches are not necessarily filenames (e.g. variables)
    compopt +o filenames 2>/dev/null || : # bash>=4
  fi

  return 0
}

complete -o bashdefault -F _shtab_kmsconn kmsconn

# What the scripts of the recipes share; sourced, not run.

# run COMMAND...: shows the command behind a "+", quoted so that it can be pasted, and runs it unless DRY_RUN=1.
run() {
    echo "+ $(printf '%q ' "$@")"
    if [[ ${DRY_RUN:-0} != 1 ]]; then
        "$@"
    fi
}

# read_arm TABLE: KIND, METHOD, PROMPTS and OVERRIDES of the arm that ARM names; the table's head says what they are.
read_arm() {
    local name rest
    while read -r name KIND METHOD PROMPTS rest; do
        if [[ $name == "$ARM" ]]; then
            read -r -a OVERRIDES <<<"$rest"
            return
        fi
    done < <(grep -v '^#' "$1")
    echo "ARM=$ARM: there is no such arm; there are: $(awk '!/^#/ && NF { print $1 }' "$1" | paste -sd ' ')" >&2
    exit 2
}

# last_checkpoint FOLDER: the newest checkpoint that verl has finished there; LAST stands for it in a dry run.
last_checkpoint() {
    if [[ ${DRY_RUN:-0} == 1 ]]; then
        echo "$1/global_step_LAST"
    elif [[ -f $1/latest_checkpointed_iteration.txt ]]; then
        echo "$1/global_step_$(<"$1/latest_checkpointed_iteration.txt")"
    else
        echo "$1: no checkpoint is there; run the stage before this one" >&2
        exit 2
    fi
}

# attention PREFIX: ATTENTION, the keys of the model under PREFIX in verl's config for the attention that is installed.
attention() {
    ATTENTION=()
    if [[ $FLASH_ATTN == 0 ]]; then
        # verl's defaults need flash-attn. Without it and without the fused kernels verl 0.9.1 takes log-probabilities
        # token by token in Python.
        ATTENTION=(
            "+$1.override_config.attn_implementation=sdpa"
            "$1.use_remove_padding=False"
            "$1.use_fused_kernels=True"
        )
    fi
}

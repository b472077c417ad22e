# Completion of servetune in bash: eval "$(servetune --completion bash)"
_servetune() {
    local typed=${COMP_LINE:0:COMP_POINT} offers kept offer
    COMPREPLY=()
    if ! offers=$("${1/#\~/$HOME}" --complete "$typed" 2>/dev/null); then
        compopt -o default # the name of a file, which readline itself knows how to complete
        return
    fi
    # bash replaces only what follows the last of COMP_WORDBREAKS, where = and : are among them
    kept=${typed##*[[:space:]]}
    kept=${kept%"${kept##*[$COMP_WORDBREAKS]}"}
    kept=${kept//[\"\']/}
    while IFS=$'\t' read -r offer _; do
        [ -z "$offer" ] || COMPREPLY+=("${offer#"$kept"}")
    done <<<"$offers"
    # No space after a name that has a value or further names to come
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *[=./] ]]; then
        compopt -o nospace
    fi
}
complete -F _servetune servetune

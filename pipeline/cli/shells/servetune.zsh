#compdef servetune
# Completion of servetune in zsh: eval "$(servetune --completion zsh)"
_servetune() {
    local offers offer name meaning
    local -a whole whole_shown open open_shown
    if ! offers=$(${~words[1]} --complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null); then
        [[ $PREFIX == *=* ]] && compset -P '*='
        _files
        return
    fi
    for offer in ${(f)offers}; do
        name=${offer%%$'\t'*} meaning=${offer#*$'\t'}
        if [[ $name == *[=./] ]]; then # no space after a name that has a value or further names to come
            open+=("$name") open_shown+=("$name${meaning:+  -- $meaning}")
        else
            whole+=("$name") whole_shown+=("$name${meaning:+  -- $meaning}")
        fi
    done
    compadd -l -d whole_shown -a whole
    compadd -l -S '' -d open_shown -a open
    (($#whole + $#open)) # the status: whether there is anything
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _servetune servetune

# Completion of servetune in fish: servetune --completion fish | source
function __servetune_offers
    set -l words (commandline -opc)
    set -l offers (command $words[1] --complete (commandline -cp | string collect) 2>/dev/null)
    if test $status -eq 0
        printf '%s\n' $offers
        return
    end
    set -l word (commandline -ct)
    set -l before (string match -r '.*=' -- $word)
    for path in (__fish_complete_path (string replace -r '.*=' '' -- $word))
        echo "$before$path"
    end
end
complete -c servetune -f -k -a '(__servetune_offers)'

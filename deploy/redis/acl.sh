#!/bin/sh
# Makes the server's ACL file out of users.acl.
#
#   acl.sh [--redis-7.0 | --redis-6.2] SECRETS < users.acl > /etc/valkey/users.acl
#
# SECRETS is a directory with a file for each user, which holds its password; while passwords are
# changed it holds both, one a line. A user without a file is left out.
set -euf
umask 077

old=""
case "$1" in
--redis-7.0 | --redis-6.2) old="$1" && shift ;;
esac
secrets="$1"

hashes() {
    while IFS= read -r password || [ -n "$password" ]; do
        [ -z "$password" ] || printf '#%s ' "$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)"
    done <"$secrets/$1"
}

for_old_servers() {
    case "$old" in
    --redis-7.0) sed -e 's/ +client|setinfo//g' ;;
    --redis-6.2) sed -e 's/ +client|setinfo//g' -e 's/%[RW]*~/~/g' -e 's/ ([^)]*)//g' \
        -e 's/ +spublish//' -e 's/ +ssubscribe//' -e 's/ +sunsubscribe//' ;;
    *) cat ;;
    esac
}

# Comments go, and lines that begin with spaces join the one before.
sed -e '/^#/d' -e '/^[[:space:]]*$/d' -e 's/^[[:space:]]\{1,\}/ /' |
    awk '/^ / { line = line $0; next } { if (line) print line; line = $0 } END { print line }' |
    for_old_servers |
    while IFS= read -r line; do
        for word in $line; do
            case "$word" in
            '#<'*'>')
                name="${word#??}" && name="${name%?}"
                if ! [ -r "$secrets/$name" ]; then
                    echo "no password for $name in $secrets: the user is left out" >&2
                    continue 2
                fi
                line="${line%%"#<"*}$(hashes "$name")${line#*"> "}"
                ;;
            esac
        done
        printf '%s\n' "$line"
    done

#!/bin/sh
# Makes up passwords for compose.yml, in the directory secrets beside it; those that are there stay.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets

make() {
    if ! [ -e "secrets/$1" ]; then
        printf '%s\n' "$2" >"secrets/$1"
        # Containers read them as users of their own; the directory keeps others of this host out.
        chmod 444 "secrets/$1"
    fi
}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

for user in engine operator probe admin; do
    make "redis_$user" "$(random)"
done
for name in postgres http_token metrics_token gateway_token grafana_admin; do
    make "$name" "$(random)"
done
# Further lines may follow, one a person: what `python -m engine token NAME` prints.
make http_tokens "prometheus=metrics:$(cat secrets/metrics_token)"
make redis_url "redis://engine:$(cat secrets/redis_engine)@valkey:6379/0"
make postgres_url "postgresql://streamlane:$(cat secrets/postgres)@postgres:5432/streamlane"

#!/bin/bash
# Start PostgreSQL with the official image's variables: POSTGRES_PASSWORD (or _FILE; a SCRAM verifier is stored as it is),
# POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS and PGDATA. The first start makes the cluster, later ones use it.
set -euo pipefail

# The cluster is made in this folder and moved up at the end, so a crash half-way is seen at the next start.
readonly unfinished="$PGDATA/.initialising"

fail() {
    echo "postgres image: $*" >&2
    exit 1
}

own_folders() {
    mkdir -p "$PGDATA" /var/run/postgresql
    find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres:postgres {} +
    chmod 0700 "$PGDATA"
    chmod 3777 /var/run/postgresql
}

read_password() {
    if [[ -z "${POSTGRES_PASSWORD:-}" && -n "${POSTGRES_PASSWORD_FILE:-}" ]]; then
        POSTGRES_PASSWORD=$(<"$POSTGRES_PASSWORD_FILE")
    fi
    [[ -n "${POSTGRES_PASSWORD:-}" ]] || fail "POSTGRES_PASSWORD is empty; give a password or a SCRAM-SHA-256 verifier"
}

require_empty_data_folder() {
    if [[ -e "$unfinished" ]]; then
        echo "postgres image: the last initialisation was interrupted, starting it again" >&2
        find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name .initialising -exec rm -rf {} +
        rm -rf "$unfinished"
    fi
    local stranger
    stranger=$(find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found -print -quit)
    [[ -z "$stranger" ]] || fail "$PGDATA holds no cluster but is not empty ($stranger); give an empty volume"
    if find /docker-entrypoint-initdb.d -mindepth 1 -print -quit 2>/dev/null | grep -q .; then
        fail "/docker-entrypoint-initdb.d is not supported by this image; use the official one"
    fi
}

make_database() {
    local cluster=$1 user=$2 database=$3
    [[ "$database" != postgres ]] || return 0
    pg_ctl -D "$cluster" -w -s -o "-c listen_addresses='' -c unix_socket_directories='$unfinished'" start
    psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet -h "$unfinished" -U "$user" -d postgres -v name="$database" \
        <<<'CREATE DATABASE :"name";'
    pg_ctl -D "$cluster" -w -s -m fast stop
}

make_cluster() {
    local cluster="$unfinished/cluster" user=${POSTGRES_USER:-postgres}
    local -a extra=()
    read -r -a extra <<<"${POSTGRES_INITDB_ARGS:-}"
    mkdir -p "$cluster"
    # What is not on disk yet gets there by the one sync at the end.
    initdb --no-sync -D "$cluster" --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
        --auth-local=trust --auth-host=trust --set listen_addresses='*' "${extra[@]}"
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$cluster/pg_hba.conf"
    make_database "$cluster" "$user" "${POSTGRES_DB:-$user}"
    # PG_VERSION is what marks a cluster as there: it comes last, after everything else is on disk.
    find "$cluster" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
    sync
    mv "$cluster/PG_VERSION" "$PGDATA/"
}

if [[ "${1:-}" == -* ]]; then
    set -- postgres "$@"
fi
if [[ "${1:-}" == postgres ]]; then
    if [[ "$(id -u)" == 0 ]]; then
        own_folders
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
    fi
    if [[ ! -s "$PGDATA/PG_VERSION" ]]; then
        read_password
        require_empty_data_folder
        make_cluster
    fi
    rm -rf "$unfinished"
    unset POSTGRES_PASSWORD
fi
exec "$@"

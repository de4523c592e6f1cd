#!/bin/bash
# Start RabbitMQ the way the official image does: as root own the data, then become the user rabbitmq.
set -euo pipefail

if [[ "${1:-}" == -* ]]; then
    set -- rabbitmq-server "$@"
fi

# A very high limit makes Erlang reserve gigabytes at boot, a very low one starves connections.
readonly wanted_files=65536
hard=$(ulimit -Hn)
if [[ "$hard" == unlimited ]] || ((hard > wanted_files)); then
    ulimit -Sn "$wanted_files"
else
    ulimit -Sn "$hard"
fi

if [[ "${1:-}" == rabbitmq* && "$(id -u)" == 0 ]]; then
    # Files copied in before the start, and volumes of the official image, belong to other user ids.
    for folder in /etc/rabbitmq /var/lib/rabbitmq /var/log/rabbitmq; do
        # A file mounted read-only keeps its owner; it must then be readable as it is.
        find "$folder" ! -user rabbitmq -exec chown rabbitmq:rabbitmq {} + || true
    done
    find /etc/rabbitmq ! -perm -u+r -exec chmod u+rX {} + || true
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups -- "$@"
fi

exec "$@"

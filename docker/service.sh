#!/bin/sh
# What a container of compose.yaml runs: service mlflow | ray-head | ray-node | sweep ARGUMENTS...
# and what asks whether it is well: service well mlflow | ray.
# Passwords and tokens are read from files: in no argument, no image and no compose file.
set -eu

HEAD=${RAY_HEAD:-ray-head:6379}

fail() {
  echo "service: $*" >&2
  exit 3
}

secret() { # FILE: its one line; letters and digits only, since it becomes part of a URI
  [ -r "$1" ] || fail "$1 cannot be read: see README.md on secrets"
  line=$(cat "$1")
  case $line in
    '') fail "$1 is empty: openssl rand -hex 32 makes one" ;;
    *[!A-Za-z0-9]*) fail "$1 is to have one line of letters and digits: openssl rand -hex 32" ;;
  esac
  [ ${#line} -ge 32 ] || fail "$1 is shorter than 32 characters: openssl rand -hex 32 makes one"
  printf %s "$line"
}

mlflow_server() {
  password=$(secret "${POSTGRES_PASSWORD_FILE:?}")
  MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://mlflow:$password@${POSTGRES_HOST:-postgres}/mlflow"
  export MLFLOW_BACKEND_STORE_URI
  # It answers to these names only: by default it would to any that begins like an address of
  # a private network, which a page in a browser can have its own name be.
  exec mlflow server --host 0.0.0.0 --port 5000 --workers 2 \
    --serve-artifacts --artifacts-destination "${ARTIFACTS:-/artifacts}" \
    --allowed-hosts "mlflow:5000,localhost:5000,127.0.0.1:5000"
}

ray_start() { # ARGUMENTS...: of a node that nobody joins, and that joins nobody, without the token
  secret "${RAY_AUTH_TOKEN_PATH:?}" >/dev/null
  export RAY_AUTH_MODE=token
  # Nothing but configurations goes through the object store.
  ray start --disable-usage-stats --object-store-memory 134217728 "$@"
}

case ${1:-} in
  mlflow)
    mlflow_server
    ;;
  ray-head)
    # It runs no trials: the nodes do, on the same machine.
    ray_start --head --port "${HEAD##*:}" --num-cpus 0 --num-gpus 0 \
      --include-dashboard false --block
    ;;
  ray-node)
    ray_start --address "$HEAD" --num-cpus "${RAY_NODE_CPUS:?}" --block
    ;;
  sweep)
    shift
    # A driver needs a node beside it; this one runs no trials.
    ray_start --address "$HEAD" --num-cpus 0 --num-gpus 0 >/dev/null
    exec sweeper "$@"
    ;;
  well)
    case ${2:-} in
      mlflow)
        exec python3 -c 'import urllib.request as it
it.urlopen("http://127.0.0.1:5000/health", timeout=5)'
        ;;
      ray)
        export RAY_AUTH_MODE=token
        exec ray health-check --address "$HEAD"
        ;;
      *) fail "well mlflow, or well ray" ;;
    esac
    ;;
  *) fail "mlflow, ray-head, ray-node, sweep ARGUMENTS..., well mlflow or well ray" ;;
esac

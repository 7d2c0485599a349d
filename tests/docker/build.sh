#!/usr/bin/env bash
# Builds docker/Dockerfile where there is no Docker: on a base of Debian's own packages, with
# buildah. As root, on Debian:
#
#   build.sh FOLDER     everything is kept in FOLDER, some 8 GB while it builds
#
# The image is localhost/sweeper in FOLDER/storage; localhost/postgres beside it is a stand-in
# for the database's, made of Debian's package. Debian's mirror is DEBIAN_MIRROR, or what
# debootstrap has by default. pip's own configuration is the build's, too.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)
base=localhost/sweeper-base

buildah() { command buildah --root "$folder/storage" --runroot "$folder/run" "$@"; }
said() { echo "$1: $((SECONDS - began)) s${2:+, $2}"; }

began=$SECONDS
if [ ! -e "$folder/base.done" ]; then
  rm -rf "$folder/base"
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    bookworm "$folder/base" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$folder/base.log" 2>&1 ||
    { tail -5 "$folder/base.log" >&2; exit 1; }
  rm -rf "$folder/base/var/cache/apt/archives" "$folder/base/var/lib/apt/lists"
  touch "$folder/base.done"
fi
container=$(buildah from scratch)
buildah add -q "$container" "$folder/base" / >/dev/null
buildah commit -q "$container" "$base" >/dev/null
buildah rm "$container" >/dev/null
said base "$(du -sm "$folder/base" | cut -f1) MB"

# pip's configuration, from wherever this machine has it; and the files that it names.
python3 - "$folder/pip.conf" >"$folder/mounts" <<'PYTHON'
import re, subprocess, sys
from pathlib import Path

said = subprocess.run(["pip3", "config", "list"], check=True, capture_output=True, text=True)
found = dict(re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", said.stdout, re.MULTILINE))
lines = [f"{key} = {value}" for key, value in found.items()]
Path(sys.argv[1]).write_text("\n".join(["[global]", *lines, ""]))
words = " ".join(found.values()).split()
# The files of an index on disk lie beside its pages.
named = {Path(w.removeprefix("file://")).parent for w in words if w.startswith("file:///")}
named |= {Path(word) for word in words if word.startswith("/")}
for path in sorted(path for path in named if path.exists()):
    print(f"--volume={path}:{path}:ro")
PYTHON
mapfile -t mounts <"$folder/mounts"

began=$SECONDS
buildah bud --isolation chroot --pull-never --build-arg "BASE=$base" --format docker \
  --ignorefile "$project/docker/Dockerfile.dockerignore" \
  --secret "id=pip.conf,src=$folder/pip.conf" "${mounts[@]}" \
  --file "$project/docker/Dockerfile" --tag localhost/sweeper "$project" \
  >"$folder/build.log" 2>&1 || { tail -20 "$folder/build.log" >&2; exit 1; }
said image "$(buildah images --format '{{.Size}}' localhost/sweeper)"

began=$SECONDS
cat >"$folder/start-postgres" <<'SCRIPT'
#!/bin/sh
# What the official image does with its documented variables, as far as compose.yaml uses them.
set -eu
export PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  # shellcheck disable=SC2086
  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  printf 'CREATE DATABASE "%s"' "$POSTGRES_DB" >/tmp/create.sql
  [ "$POSTGRES_DB" = postgres ] || postgres --single postgres </tmp/create.sql >/dev/null
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
SCRIPT
chmod 0755 "$folder/start-postgres"
container=$(buildah from --pull-never "$base")
{
  buildah run --isolation chroot "$container" -- sh -euc '
    groupadd --gid 999 postgres && useradd --uid 999 --gid 999 postgres
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends postgresql-15
    rm -rf /var/lib/postgresql/* /var/lib/apt/lists/* /var/cache/apt/archives/*
    install -d -o 999 -g 999 -m 0700 /var/lib/postgresql/data && chmod 3777 /run/postgresql
    ln -s /usr/lib/postgresql/15/bin/pg_isready /usr/local/bin/'
  buildah add --quiet "$container" "$folder/start-postgres" /usr/local/bin/start-postgres
  buildah config --entrypoint '["start-postgres"]' --cmd '' "$container"
  buildah commit --quiet "$container" localhost/postgres
  buildah rm "$container"
} >"$folder/postgres.log" 2>&1 || { tail -20 "$folder/postgres.log" >&2; exit 1; }
said postgres "$(buildah images --format '{{.Size}}' localhost/postgres)"

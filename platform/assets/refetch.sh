#!/usr/bin/env bash
# Fetches the vendored files again with the npm client, compares them with sha256.txt, and writes them to vendored/.
# A file that differs is reported and nothing is written. To move to another version: change the list below and run
# with --accept, then look at /docs in a browser and commit the files with the new sha256.txt.
set -euo pipefail
cd "$(dirname "$0")"

# package@version | file in the package | name here
FILES='
swagger-ui-dist@5.35.0|swagger-ui-bundle.js|swagger-ui-bundle.js
swagger-ui-dist@5.35.0|swagger-ui-bundle.js.LICENSE.txt|swagger-ui-bundle.js.LICENSE.txt
swagger-ui-dist@5.35.0|swagger-ui.css|swagger-ui.css
swagger-ui-dist@5.35.0|LICENSE|LICENSE-swagger-ui.txt
'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/vendored"

while IFS='|' read -r package file name; do
    [ -n "$package" ] || continue
    unpacked="$work/${package//\//-}"
    if [ ! -d "$unpacked" ]; then
        mkdir "$unpacked"
        archive=$(cd "$work" && npm pack --silent "$package" | tail -n 1)
        tar -xzf "$work/$archive" -C "$unpacked" --strip-components=1
    fi
    cp "$unpacked/$file" "$work/vendored/$name"
done <<<"$FILES"

if [ "${1:-}" = "--accept" ]; then
    (cd "$work/vendored" && LC_ALL=C sha256sum *) >sha256.txt
else
    (cd "$work/vendored" && sha256sum --check --quiet) <sha256.txt
fi
mkdir -p vendored
cp "$work"/vendored/* vendored/
echo "vendored files are as listed in sha256.txt"

#!/bin/bash
# {{ title }}
# {{ written_by }} for xpk. Submit with: {{ submission }}
set -euo pipefail
{% if bucket %}

# Run once for each cluster and bucket, to mount it (directories are renamed when a checkpoint is complete):
#   xpk storage attach {{ storage }} {{ attach_words | join_quoted }} \
#     --mount-point={{ bucket.mount }} --size=1000 --readonly=false --auto-mount=false --mount-options=implicit-dirs,rename-dir-limit=10000
{% endif %}

# The image is the base image and this folder, without what .dockerignore names.
# Exit codes 42 (preempted after a save) and 127 to 255 (a host died) restart the workload, up to --max-restarts times.
xpk workload create \
{% for word in words %}
  {{ word | quote }} \
{% endfor %}
  --command="$(cat <<'COMMAND'
pip install --quiet --constraint constraints.txt --editable '.[tpu]' && exec {{ command }}
COMMAND
)"

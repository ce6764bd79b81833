#!/usr/bin/env bash
# Ray 2.60.0: ray.shutdown() takes the program's own handler of SIGTERM away
#
# A program sets a handler of SIGTERM while Ray runs in it, so that it can stop in order: save, close,
# say where it stands. Later it calls ray.shutdown(), and goes on.
# Expected: the handler is still there; Ray did not set it, and Python says that it is there.
# Happens: the process has the default action, beneath Python: signal.getsignal gives the handler,
#   the next SIGTERM ends the process at once. Ray's core worker sets SIGTERM back to the default as
#   it ends, with the signals of its failure handler, whoever has taken them over since. SIGINT and
#   SIGHUP are left alone. Where handlers are set anew after ray.shutdown() all is well.
#
# Seen: what Python has, what Linux has, and the exit code of a program sent SIGTERM at the end
#   without Ray                 getsignal handler  caught yes  exit 7
#   after ray.shutdown()        getsignal handler  caught no   exit -15
#   set again after shutdown    getsignal handler  caught yes  exit 7
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    'ray[default]==2.60.0' aiohappyeyeballs==2.7.1 aiohttp-cors==0.8.1 aiohttp==3.14.5 \
    aiosignal==1.4.0 annotated-types==0.8.0 attrs==26.1.0 certifi==2026.10.18 cffi==2.1.1 \
    charset-normalizer==3.5.2 click==8.5.1 colorful==0.5.8 cryptography==50.0.2 distlib==0.4.4 \
    filelock==4.2.12 frozenlist==1.8.0 google-api-core==2.44.0 google-auth==2.62.2 \
    googleapis-common-protos==1.76.0 grpcio==1.85.1 idna==3.20 \
    jsonschema-specifications==2025.9.1 jsonschema==4.26.0 msgpack==1.2.4 multidict==7.2.1 \
    opencensus-context==0.1.3 opencensus==0.11.4 opentelemetry-api==1.45.2 \
    opentelemetry-exporter-prometheus==0.66b2 opentelemetry-proto==1.45.2 \
    opentelemetry-sdk==1.45.2 opentelemetry-semantic-conventions==0.66b2 packaging==26.3 \
    platformdirs==4.14.7 prometheus_client==0.26.0 propcache==0.5.4 proto-plus==1.29.0 \
    protobuf==7.36.2 py-spy==0.4.3 pyasn1==0.6.5 pyasn1_modules==0.4.2 pycparser==3.12 \
    pydantic==2.14.3 pydantic_core==2.50.4 python-discovery==1.9.5 PyYAML==6.0.3 \
    referencing==0.37.0 requests==2.34.2 rpds-py==2026.9.1 six==1.17.0 smart_open==9.0.2 \
    typing-inspection==0.4.5 typing_extensions==4.16.0 urllib3==2.8.0 virtualenv==21.15.8 \
    wrapt==2.5.2 yarl==1.25.1
cd "$work"
cat > program.py <<'END'
import os
import signal
import sys


def handler(number, frame):
    os._exit(7)


def is_caught():
    with open("/proc/self/status") as file:
        (mask,) = (line.split()[1] for line in file if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


if sys.argv[1] != "without":
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
signal.signal(signal.SIGTERM, handler)
assert is_caught()
if sys.argv[1] != "without":
    ray.shutdown()
if sys.argv[1] == "again":
    signal.signal(signal.SIGTERM, handler)
known = "handler" if signal.getsignal(signal.SIGTERM) is handler else "another"
print(f"SEEN getsignal {known}  caught {'yes' if is_caught() else 'no':3}", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
END
unset RAY_ADDRESS
export HOME=$work RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR=$work
venv/bin/python - <<'EOF'
import subprocess
import sys

seen = {}
for name, way in (
    ("without Ray", "without"),
    ("after ray.shutdown()", "with"),
    ("set again after shutdown", "again"),
):
    ran = subprocess.run(
        [sys.executable, "program.py", way], capture_output=True, text=True, timeout=120
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("SEEN ")]
    if len(lines) != 1:
        sys.exit(f"the program has not run: {ran.stdout}{ran.stderr}")
    seen[name] = f"{lines[0].removeprefix('SEEN ')}  exit {ran.returncode}"
    print(f"{name:26}  {seen[name]}")
if [*seen.values()] != [
    "getsignal handler  caught yes  exit 7",
    "getsignal handler  caught no   exit -15",
    "getsignal handler  caught yes  exit 7",
]:
    sys.exit("changed: not what the head of this script states")
EOF

#!/usr/bin/env bash
# Ray 2.60.0: another node of the same machine removes the folder that a job's driver runs in
#
# Two nodes on one machine, each by `ray start` at an address of its own; the second one is given
# no --temp-dir, and so takes the head's. A job is submitted with --working-dir: its driver runs in
# the unpacked copy.
# Expected: the driver can read the files of its current folder for as long as it runs.
# Happens: as soon as the second node starts a process with the job's runtime environment, its agent
#   removes the folder, which lies where its own would, and unpacks the package anew (create in
#   ray/_private/runtime_env/working_dir.py calls download_and_unpack_package with overwrite=True).
#   The driver then stands in a folder that is gone: getcwd and every relative path raise
#   FileNotFoundError. With a --temp-dir of its own for the second node the folder stays.
#
# Seen: the driver's current folder, and a file beside it, once an actor runs on the second node
#   one --temp-dir    replaced  getcwd FileNotFoundError  beside.txt FileNotFoundError
#   one for each      there     getcwd works              beside.txt read
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
mkdir job
echo text > job/beside.txt
cat > job/driver.py <<'END'
import os
import ray

where = os.getcwd()
ray.init(log_to_driver=False)


@ray.remote(num_cpus=0, resources={"second": 1})
class Somebody:
    def answers(self):
        return True


def tried(act, works):
    try:
        act()
        return works
    except FileNotFoundError as error:
        return type(error).__name__


somebody = Somebody.remote()
ray.get(somebody.answers.remote(), timeout=60)
is_there = os.path.exists(where) and os.path.samestat(os.stat(where), os.stat("."))
print(
    f"SEEN {'there' if is_there else 'replaced':8}  getcwd {tried(os.getcwd, 'works'):17}  "
    f"beside.txt {tried(lambda: open('beside.txt').read(), 'read')}"
)
END
unset RAY_ADDRESS
export HOME=$work RAY_USAGE_STATS_ENABLED=0 PATH=$work/venv/bin:$PATH
venv/bin/python - <<'EOF'
import os
import signal
import socket
import subprocess
import sys
import time

HEAD, SECOND = "127.0.0.2", "127.0.0.3"
STARTS_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def node(address, *options):
    command = ["ray", "start", "--block", "--node-ip-address", address, "--num-cpus", "1"]
    command += ["--object-store-memory", "80000000", "--min-worker-port", "0"]
    command += ["--max-worker-port", "0", "--dashboard-agent-listen-port", free_port(), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def listens(address, port):
    with socket.socket() as probe:
        return probe.connect_ex((address, int(port))) == 0


def below(pid):
    """The process and all that it has started."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = [pid]
    for one in found:
        found += [child for child, parent in pairs if parent == one]
    return found


def end(nodes):
    pids = [pid for one in nodes for pid in below(one.pid)]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for one in nodes:
        one.wait()


def seen(temp, own):
    gcs, dashboard = free_port(), free_port()
    head = ["--head", "--port", gcs, "--temp-dir", temp, "--dashboard-port", dashboard]
    nodes = [node(HEAD, *head, "--ray-client-server-port", free_port())]
    try:
        until = time.monotonic() + STARTS_S
        while not (listens(HEAD, gcs) and listens("127.0.0.1", dashboard)):
            if time.monotonic() > until:
                sys.exit(f"Ray's head has not started within {STARTS_S} s")
            time.sleep(0.2)
        place = ["--temp-dir", own] if own else []
        joins = ["--address", f"{HEAD}:{gcs}", "--resources", '{"second": 1}', *place]
        nodes.append(node(SECOND, *joins))
        submit = ["ray", "job", "submit", "--address", f"http://127.0.0.1:{dashboard}"]
        submit += ["--working-dir", "job", "--", "python", "driver.py"]
        told = subprocess.run(submit, capture_output=True, text=True, timeout=180)
        lines = [line for line in told.stdout.splitlines() if line.startswith("SEEN ")]
        if len(lines) != 1:
            sys.exit(f"the job has not ended as it should: {told.stdout}{told.stderr}")
        return lines[0].removeprefix("SEEN ")
    finally:
        end(nodes)


here = os.getcwd()
shared, apart = seen(f"{here}/a", None), seen(f"{here}/b", f"{here}/c")
print(f"one --temp-dir    {shared}\none for each      {apart}")
if shared.split()[::2] != ["replaced", "FileNotFoundError", "FileNotFoundError"]:
    sys.exit("changed: not what the head of this script states")
if apart.split() != ["there", "getcwd", "works", "beside.txt", "read"]:
    sys.exit("changed: not what the head of this script states")
EOF

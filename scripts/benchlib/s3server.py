"""A real S3 server for walkeep and pgBackRest to archive to: Garage, behind TLS, behind a slow link, on 127.0.0.1."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchlib.process import Failure, environment, run
from benchlib.slowlink import slow_link

SCRIPTS = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60

# In the form of keys that Garage creates.
ACCESS_KEY = "GK0123456789abcdef01234567"
SECRET_KEY = "0123456789abcdef" * 4
BUCKET = "wal"
REGION = "garage"

GARAGE_TOML = """
metadata_dir = "{directory}/meta"
data_dir = "{directory}/data"
db_engine = "sqlite"
replication_factor = 1
# Everybody's WAL comes compressed; doing it again would take the cores from those that are measured.
compression_level = "none"
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"

[s3_api]
api_bind_addr = "127.0.0.1:{s3}"
s3_region = "{region}"
root_domain = ".s3.localhost"
"""

# Only TLS, without delaying bytes to collect more.
STUNNEL_CONF = """
foreground = yes
pid =
debug = notice
[s3]
accept = 127.0.0.1:{tls}
connect = 127.0.0.1:{s3}
cert = {directory}/server.pem
key = {directory}/server.key
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"""

# RSA, like the certificates of the big providers.
OPENSSL_CNF = """
[req]
distinguished_name = nobody
[nobody]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
"""


@dataclass(frozen=True)
class S3Server:
    """A running server: its address and its files. The certificate is valid for localhost and 127.0.0.1."""

    host: str
    port: int
    ca_file: Path
    stored: Path


def find_programs():
    """Returns the paths of Garage, stunnel and openssl. Installs them if they are missing, which may take minutes."""
    packages = [package for package, programs in (("stunnel4", ("stunnel4", "stunnel")), ("openssl", ("openssl",)))
                if not any(map(shutil.which, programs))]
    if packages:
        _tell(["bash", "-c", '. "$0/machine.sh"; install_packages "$@" >&2', SCRIPTS, *packages])
    garage = os.environ.get("WALKEEP_GARAGE") or _tell([SCRIPTS / "garage"]).strip()
    if not os.access(garage, os.X_OK):
        raise Failure(f"no Garage in {garage}; leave WALKEEP_GARAGE empty to have it installed by scripts/garage")
    return {
        "garage": Path(garage),
        "stunnel": Path(shutil.which("stunnel4") or shutil.which("stunnel")),
        "openssl": Path(shutil.which("openssl")),
    }


def _tell(argv):
    """Returns the output of a script that may take long, and lets it end its own children when interrupted."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.returncode != 0:
        raise Failure(f"`{' '.join(map(str, argv))}` failed")
    return output


@contextlib.contextmanager
def serve(programs, work, round_trip_ms):
    """Runs a server with an empty bucket; yields an `S3Server`, which has another address than what serves it."""
    directory = work / "s3"
    directory.mkdir(mode=0o700)
    _make_certificates(programs["openssl"], directory)
    s3, rpc, tls = _free_ports(3)
    settings = {"directory": directory, "s3": s3, "rpc": rpc, "tls": tls, "region": REGION}
    garage_toml, stunnel_conf = directory / "garage.toml", directory / "stunnel.conf"
    garage_toml.write_text(GARAGE_TOML.format(secret=secrets.token_hex(32), **settings))
    stunnel_conf.write_text(STUNNEL_CONF.format(**settings))
    env = environment(
        GARAGE_DEFAULT_BUCKET=BUCKET,
        GARAGE_DEFAULT_ACCESS_KEY=ACCESS_KEY,
        GARAGE_DEFAULT_SECRET_KEY=SECRET_KEY,
        RUST_LOG="garage=info",
        NO_COLOR="1",
    )
    garage = [programs["garage"], "--config", garage_toml, "server", "--single-node", "--default-bucket"]
    stunnel = [programs["stunnel"], stunnel_conf]
    with (
        _server(garage, env, directory / "garage.log", f"S3 API server listening on http://127.0.0.1:{s3}"),
        _server(stunnel, environment(), directory / "stunnel.log", "Configuration successful"),
        slow_link(tls, round_trip_ms / 1e3) as port,
    ):
        yield S3Server("localhost", port, directory / "ca.pem", directory / "data")
    shutil.rmtree(directory)


def _make_certificates(openssl, directory):
    configuration = directory / "openssl.cnf"
    configuration.write_text(OPENSSL_CNF)
    make = [openssl, "req", "-config", configuration, "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    env = environment()
    run([*make, "-extensions", "authority", "-subj", "/CN=bench", "-keyout", ca_key, "-out", ca], env)
    sign = ["-extensions", "server", "-subj", "/CN=localhost", "-CA", ca, "-CAkey", ca_key]
    run([*make, *sign, "-keyout", directory / "server.key", "-out", directory / "server.pem"], env)


def _free_ports(count):
    """Returns different ports, because all are open at the same time."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


@contextlib.contextmanager
def _server(argv, env, log, serves):
    """Runs a server until the end of the context. It serves once its log contains `serves`. Its data is not kept."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while serves not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"{Path(argv[0]).name} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

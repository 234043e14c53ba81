"""The peers that archive into an S3 store, and the command lines of each.

Each root has a part of the bucket of its own, so that every segment is new to it."""

import shlex
import shutil

from benchlib.peer import Peer
from benchlib.peers import COMPRESSION, PGBACKREST, PGBACKREST_2, PGBACKREST_8, WALKEEP, pgbackrest, skipped_pgbackrest
from benchlib.s3server import ACCESS_KEY, BUCKET, REGION, SECRET_KEY

BARMAN = "barman-cloud"
WALKEEP_NO_HEAD = "walkeep, no HEAD"

CONDITIONAL_PUT = {WALKEEP: "auto", WALKEEP_NO_HEAD: "yes"}

KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


class Bucket:
    """Archives in the bucket of `server`. `skipped` contains the peers that cannot be measured, with the reasons."""

    name = "s3"

    def __init__(self, work, wal, binaries, server):
        self.binaries, self.server = binaries, server
        self.skipped = skipped_pgbackrest(self._pgbackrest(work / "trial", PGBACKREST), wal)
        if not shutil.which("barman-cloud-wal-archive"):
            self.skipped[BARMAN] = "not installed (Debian, Ubuntu: apt-get install barman-cli-cloud python3-boto3)"

    def single(self, root):
        """The peers whose single calls are compared."""
        return self._peers(root, [PGBACKREST])

    def throughput(self, root):
        """The peers whose throughput on a backlog is compared."""
        barman = [] if BARMAN in self.skipped else [self._barman(root)]
        return [*self._peers(root, [PGBACKREST_2, PGBACKREST_8, PGBACKREST]), *barman]

    def _peers(self, root, pgbackrests):
        others = [self._pgbackrest(root, name) for name in pgbackrests if name not in self.skipped]
        return [self.walkeep(root), self.walkeep(root, WALKEEP_NO_HEAD), *others]

    def walkeep(self, root, name=WALKEEP, settings=""):
        """walkeep. Only the peer with the default name has a restore_command, because restores do not differ."""
        conditional_put = CONDITIONAL_PUT[name]
        url = f"s3://{BUCKET}/{root.name}/{conditional_put}"
        root = root / f"walkeep-{conditional_put}"
        root.mkdir(parents=True)
        configuration = root / "walkeep.toml"
        configuration.write_text(
            f'archive = "{url}"\n{settings}\n'
            f'[store]\nca_file = "{self.server.ca_file}"\nconditional_put = "{conditional_put}"\n'
        )
        push, restore = (
            shlex.join([str(self.binaries / program), "--config", str(configuration), *options])
            for program, options in (("walkeep-archive", COMPRESSION), ("walkeep-restore", ()))
        )
        variables = {"AWS_ENDPOINT_URL": self._url(), "AWS_REGION": REGION, **KEYS}
        restore_command = f"{restore} %f %p" if name == WALKEEP else ""
        return Peer(name, root, f"{push} %p", restore_command, variables=variables, stored=self.server.stored)

    def _pgbackrest(self, root, name):
        server = self.server
        repository = [
            "--repo1-type=s3",
            f"--repo1-path=/{root.name}/{name.replace(' ', '-')}",
            f"--repo1-s3-endpoint={server.host}:{server.port}",
            f"--repo1-s3-bucket={BUCKET}",
            f"--repo1-s3-region={REGION}",
            "--repo1-s3-uri-style=path",
            f"--repo1-storage-ca-file={server.ca_file}",
        ]
        variables = {"PGBACKREST_REPO1_S3_KEY": ACCESS_KEY, "PGBACKREST_REPO1_S3_KEY_SECRET": SECRET_KEY}
        return pgbackrest(root, name, repository, variables, server.stored)

    def _barman(self, root):
        """barman-cloud, with gzip, the compression that all its versions support."""
        url = f"s3://{BUCKET}/{root.name}/barman"
        root = root / "barman"
        root.mkdir(parents=True)
        configuration = root / "aws"
        configuration.write_text(f"[default]\nregion = {REGION}\ns3 =\n  addressing_style = path\n")
        options = ["--cloud-provider", "aws-s3", "--endpoint-url", self._url()]
        push = shlex.join(["barman-cloud-wal-archive", *options, "--gzip", url, "bench"])
        restore = shlex.join(["barman-cloud-wal-restore", *options, url, "bench"])
        variables = {"AWS_CA_BUNDLE": str(self.server.ca_file), "AWS_CONFIG_FILE": str(configuration), **KEYS}
        return Peer(
            BARMAN,
            root,
            f"{push} %p",
            f"{restore} %f %p",
            variables=variables,
            stored=self.server.stored,
            one_by_one=True,
        )

    def _url(self):
        return f"https://{self.server.host}:{self.server.port}"

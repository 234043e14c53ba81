"""What is compared where the archive is in an S3 store: pushes, restores and misses, each by a process of its own.

They take turns as in `peers`, and the samples belong together as there. Each round has a part of the bucket of its own,
so that every segment is new to it. Recovery asks for a segment before it is archived, which is a miss, and after."""

import random
import shlex
import shutil
import sys

from benchlib.peers import PGBACKREST, WALKEEP, Peer, pgbackrest, warm, why_no_pgbackrest
from benchlib.s3server import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, serve

WALKEEP_NO_HEAD = "walkeep, no HEAD"


def measure(wal, segments, work, binaries, programs, rounds, round_trip_ms):
    """Samples in ms of every peer, and why a peer was skipped."""
    samples = {"miss_ms": {}, "push_ms": {}, "restore_ms": {}}
    with serve(programs, work, round_trip_ms) as server:
        no_pgbackrest = why_no_pgbackrest(_pgbackrest(work / "trial", server), wal)
        order = random.Random(1)
        for number in range(rounds):
            print(f"bench: round {number + 1} of {rounds}", file=sys.stderr)
            root = work / f"round-{number + 1}"
            peers = _peers(root, server, binaries, bool(no_pgbackrest))
            for peer in peers:
                peer.set_up(wal)
            for segment in segments:
                warm(wal / "pg_wal" / segment)
                turn = order.sample(peers, len(peers))
                restoring = [peer for peer in turn if peer.restore_command]
                for peer in restoring:
                    samples["miss_ms"].setdefault(peer.name, []).append(peer.miss_ms(segment))
                for peer in turn:
                    samples["push_ms"].setdefault(peer.name, []).append(peer.push_ms(wal, segment))
                for peer in restoring:
                    samples["restore_ms"].setdefault(peer.name, []).append(peer.restore_ms(wal, segment))
            shutil.rmtree(root)
    in_order = [peer.name for peer in peers]
    return {
        **{what: {name: of[name] for name in in_order if name in of} for what, of in samples.items()},
        "skipped": {PGBACKREST: no_pgbackrest} if no_pgbackrest else {},
    }


def _peers(root, server, binaries, without_pgbackrest):
    walkeep = [
        _walkeep(WALKEEP, root, server, binaries, "auto"),
        _walkeep(WALKEEP_NO_HEAD, root, server, binaries, "yes"),
    ]
    return walkeep if without_pgbackrest else [_pgbackrest(root, server), *walkeep]


def _walkeep(name, root, server, binaries, conditional_put):
    """For restores the setting makes no difference: there is a restore_command with "auto" only."""
    url = f"s3://{BUCKET}/{root.name}/{conditional_put}"
    root = root / f"walkeep-{conditional_put}"
    root.mkdir(parents=True)
    configuration = root / "walkeep.toml"
    configuration.write_text(
        f'archive = "{url}"\n[store]\nca_file = "{server.ca_file}"\nconditional_put = "{conditional_put}"\n'
    )
    push, restore = (
        shlex.join([str(binaries / program), "--config", str(configuration)])
        for program in ("walkeep-archive", "walkeep-restore")
    )
    variables = {
        "AWS_ENDPOINT_URL": f"https://{server.host}:{server.port}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
    }
    restore_command = f"{restore} %f %p" if conditional_put == "auto" else ""
    return Peer(name, root, f"{push} %p", restore_command, variables=variables)


def _pgbackrest(root, server):
    """Synchronous, as it is unless told otherwise."""
    repository = [
        "--repo1-type=s3",
        f"--repo1-path=/{root.name}/pgbackrest",
        f"--repo1-s3-endpoint={server.host}:{server.port}",
        f"--repo1-s3-bucket={BUCKET}",
        f"--repo1-s3-region={REGION}",
        "--repo1-s3-uri-style=path",
        f"--repo1-storage-ca-file={server.ca_file}",
    ]
    variables = {"PGBACKREST_REPO1_S3_KEY": ACCESS_KEY, "PGBACKREST_REPO1_S3_KEY_SECRET": SECRET_KEY}
    return pgbackrest(root, repository, variables)

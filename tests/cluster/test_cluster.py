"""A sweep over a Ray cluster of two machines (namespaces with their own addresses, host names,
processes and mounts): what it comes to, and what keeps it from being begun."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import nodes
import pytest
import two_nodes
from nodes import until
from two_nodes import Bench

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SWEEP = """
name: small
trainer: {{function: "toy_cluster:{trainer}"}}
base: {{steps: {steps}, pause: 0.5}}
axes: {{seed: [0, 1, 2, 3]}}
resources: {{cpus: {cpus}, gpus: {gpus}}}
profiles: {{quick: {{}}}}
"""
CORPUS = """
name: corpus
trainer: {function: trainers.text_vae:train, config: trainers.config}
base: {data: tiny, size.embedding: 4, size.encoder: 4, size.decoder: 4, size.latent: 2}
axes: {seed: [0]}
resources: {cpus: 1, gpus: 0}
profiles: {quick: {}}
"""
REFUSED_SECONDS = 120.0  # of a busy machine; Ray itself tries for more than that


@pytest.fixture(scope="module")
def machines() -> None:
    if why := nodes.lacking():
        pytest.skip(why)


@pytest.fixture(scope="module")
def made(machines, tmp_path_factory) -> Iterator[Bench]:
    """Three machines; Ray on two of them."""
    folder = tmp_path_factory.mktemp("cluster")
    with two_nodes.bench(folder) as made, two_nodes.cluster(made):
        yield made


def sweep(
    made: Bench, trainer: str = "paced", *, steps: int = 3, cpus: int = 1, gpus: int = 0
) -> Path:
    """A file of four trials, beside a toy trainer."""
    folder = made.folder / f"file-{time.monotonic_ns()}"
    folder.mkdir()
    toys = Path(__file__).parents[1] / "sweeper" / "toy_trainers.py"
    shutil.copy(toys, folder / "toy_cluster.py")
    path = folder / "small.yaml"
    path.write_text(SWEEP.format(trainer=trainer, steps=steps, cpus=cpus, gpus=gpus))
    return path


@pytest.mark.fault("A4")
def test_a_lost_node_s_trials_continue_and_the_tables_are_those_of_one_machine(
    machines, tmp_path, full, say
):
    with two_nodes.bench(tmp_path, tracking=True) as made:
        seen = two_nodes.whole(made, full=full, say=say)
    assert seen.ended == 0, seen.said
    assert set(seen.states) == {"done"}
    assert set(seen.results) == {"head", "node"}, "both have trained to the end"
    assert seen.differing == []
    assert len(seen.compared) >= 8
    assert all(cost > 1 for cost in seen.resumed_from.values()), "resumed, not begun again"
    assert seen.noticed_seconds < 60
    assert seen.runs == sum(seen.results.values())
    assert seen.logs == 0
    assert "running" in seen.status
    assert "Traceback" not in seen.said
    assert list((tmp_path / "store").glob(".asked*")) == []


# ---- refused before anything is begun


def refused(
    made: Bench, *more: object, file: Path | None = None, store: str | None = None, **how
) -> list[str]:
    """The lines that say why, of a run that ends with 3, soon, and leaves nothing."""
    store = store or f"store-{time.monotonic_ns()}"
    address = () if "--address" in more else ("--address", made.address)
    began = time.monotonic()
    said = made.sweeper("run", file or sweep(made), *address, *more, store=store, **how)
    assert time.monotonic() - began < REFUSED_SECONDS
    assert said.returncode == 3, said.stderr
    assert "Traceback" not in said.stderr
    left = {path.name for path in (made.folder / store).iterdir()}
    assert not [name for name in left if name.startswith((".asked", ".stop", ".tune"))]
    assert list((made.folder / store).glob("trials/*")) == []
    return [line for line in said.stderr.splitlines() if not line.startswith(("small ", "corpus "))]


def test_nobody_at_the_address(made):
    (line,) = refused(made, "--address", f"{made.head.address}:6399")
    assert line.startswith(f"nothing answers at {made.head.address}:6399")


def test_an_address_that_is_none(made):
    (line,) = refused(made, "--address", "nonsense")
    assert line == "--address nonsense: an address is HOST:PORT (mostly port 6379), or auto"


def test_another_token(made):
    other = made.folder / "other"
    other.write_text("f" * 64)
    (line,) = refused(made, env={"RAY_AUTH_TOKEN_PATH": str(other)})
    assert line == (
        f"the Ray cluster at {made.address} refuses the token of RAY_AUTH_TOKEN_PATH: "
        "it has another one"
    )


def test_no_token(made):
    (line,) = refused(made, env={"RAY_AUTH_TOKEN_PATH": None})
    assert line.startswith(f"there is no token for the Ray cluster at {made.address}: give the")


def test_a_machine_that_is_not_of_the_cluster(made):
    (line,) = refused(made, on=made.hosts["server"])
    assert f"`ray start --address={made.address}`" in line


def test_inline_joins_no_cluster(made):
    file = sweep(made)
    said = made.sweeper("run", file, "--address", made.address, "--dispatch", "inline")
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1] == (
        "--dispatch inline joins no Ray cluster: leave that or --address out"
    )


def test_what_no_node_can_hold(made):
    (line,) = refused(made, file=sweep(made, gpus=1))
    assert line == (
        "a trial asks for 1 CPU and 1 GPU on one node, and no node has that: the cluster has "
        "2 CPUs and 0 GPUs (2 nodes); change resources, or wait for a node that has it "
        "(--wait, with --slots)"
    )
    (line,) = refused(made, file=sweep(made, cpus=2))
    assert line.startswith("a trial asks for 2 CPUs on one node")


@pytest.mark.fault("B20")
def test_a_node_that_does_not_see_the_store(made):
    file, hidden = sweep(made), made.folder / "hidden"
    (hidden / "store").mkdir(parents=True)
    made.node.hide(hidden)
    try:
        (line,) = refused(made, file=file, store="hidden/store")
        assert line == (
            f"node {made.node.address}: it does not see the store {hidden / 'store'}: "
            "mount it there, under the same path"
        )
        made.node.run("mkdir", hidden / "store", env=made.env, cwd=made.folder)
        (line,) = refused(made, file=file, store="hidden/store")
        assert line == (
            f"node {made.node.address}: its {hidden / 'store'} is not the driver's: "
            "mount the one store under that path"
        )
    finally:
        made.node.show(hidden)
    assert [path.name for path in (hidden / "store").glob(".asked*")] == []


def corpora(made: Bench) -> tuple[Path, Path]:
    """A sweep file, and the folder of the corpus that it trains on."""
    data = made.folder / f"data-{time.monotonic_ns()}"
    (data / "tiny").mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (data / "tiny" / f"{split}.txt").write_text("a b c\nb c\nc a b\n" * 8)
    file = data.with_suffix(".yaml")
    file.write_text(CORPUS)
    return file, data


@pytest.mark.fault("B19")
def test_a_node_without_the_corpora(made):
    file, data = corpora(made)
    made.node.hide(data)
    try:
        (line,) = refused(made, "--data", str(data), file=file)
        said = (
            f"node {made.node.address}: its corpora: unknown corpus 'tiny': no folder of that name"
        )
        assert line.startswith(said)
    finally:
        made.node.show(data)


def test_a_node_with_other_corpora(made):
    file, data = corpora(made)
    made.node.hide(data / "tiny")
    try:
        for split in ("train", "valid", "test"):
            words = ("sh", "-c", f"yes 'a b' | head -9 > {data / 'tiny' / split}.txt")
            made.node.run(*words, env=made.env, cwd=made.folder)
        (line,) = refused(made, "--data", str(data), file=file)
        assert line.startswith(f"node {made.node.address}: its data is not the driver's (digest ")
    finally:
        made.node.show(data / "tiny")


@pytest.mark.fault("A21")
def test_a_node_with_another_trainer(made):
    file = sweep(made)
    made.node.hide(file.parent)
    try:
        words = ("sh", "-c", f"echo '# another' > {file.parent / 'toy_cluster.py'}")
        made.node.run(*words, env=made.env, cwd=made.folder)
        (line,) = refused(made, file=file)
        assert line == (
            f"node {made.node.address}: the code of the trainer toy_cluster:paced is not the same "
            "there: install or mount the driver's"
        )
    finally:
        made.node.show(file.parent)


# ---- begun


def test_auto_joins_the_cluster_of_this_machine_and_uses_both_nodes(made):
    store = "auto"
    said = made.sweeper("run", sweep(made, steps=16), "--address", "auto", store=store)
    assert said.returncode == 0, said.stderr
    hosts = {entry["host"] for _, entry in made.store(store).starts()}
    assert hosts == {made.head.name, made.node.name}
    left = [path.name for path in (made.folder / store).iterdir()]
    assert not [name for name in left if name.startswith((".asked", ".stop", ".tune"))]


def test_what_a_trial_printed_is_read_on_another_machine(made):
    file, store = sweep(made, "chatters"), "chats"
    said = made.sweeper("run", file, "--address", made.address, store=store)
    assert said.returncode == 0, said.stderr
    id, start = next(made.store(store).starts())
    other = made.node if start["host"] == made.head.name else made.head
    logs = made.sweeper("logs", file, id, on=other, store=store)
    assert logs.returncode == 0, logs.stderr
    assert "a word on stdout" in logs.stdout


def test_who_waits_is_told_for_what_and_a_node_that_joins_takes_the_trials(made):
    output, store = made.folder / "waits.txt", "waits"
    wait = ("--address", made.address, "--wait", "--slots", "1")
    words = made.words("run", sweep(made, gpus=1), *wait, store=store)
    driver = made.head.start(*words, env=made.env, log=output, cwd=two_nodes.ROOT)
    waits = "waiting for 1 CPU and 1 GPU: the cluster has 2 CPUs and 0 GPUs (2 nodes); free are "
    until(lambda: waits in output.read_text(), "the word of it", driver)
    late = made.hosts["server"]
    with nodes.ray_node(late, made.token, made.folder, head=made.head, gpus=1):
        assert driver.wait(nodes.SECONDS) == 0, output.read_text()
    assert f"node {late.address} has joined" in output.read_text()
    assert {entry["host"] for _, entry in made.store(store).starts()} == {late.name}


@pytest.mark.fault("B20")
def test_a_node_that_joins_and_does_not_see_the_store_ends_the_run(made):
    output, store = made.folder / "blind.txt", made.folder / "blind"
    store.mkdir()
    wait = ("--address", made.address, "--wait", "--slots", "1")
    words = made.words("run", sweep(made, gpus=1), *wait, store=store)
    driver = made.head.start(*words, env=made.env, log=output, cwd=two_nodes.ROOT)
    late = made.hosts["server"]
    if late.init is None:
        late.switch_on()
    late.hide(store)
    with nodes.ray_node(late, made.token, made.folder, head=made.head, gpus=1):
        ended = driver.wait(nodes.SECONDS)
    said = output.read_text()
    assert ended == 3, said
    assert f"node {late.address}: its {store} is not the driver's" in said
    assert "Traceback" not in said
    assert made.store("blind").records() == []


@pytest.mark.fault("A20")
@pytest.mark.parametrize("what", ["the machine", "its server"])
def test_a_lost_head_ends_the_driver_and_another_cluster_goes_on(machines, tmp_path, what, say):
    """The driver is on the node, or beside the head, which loses only what Ray's head is."""
    with two_nodes.bench(tmp_path) as made:
        file = sweep(made, steps=30)
        output = tmp_path / "driver.txt"
        with two_nodes.cluster(made):
            words = made.words("run", file, "--address", made.address)
            on = made.node if what == "the machine" else made.head
            driver = on.start(*words, env=made.env, log=output, cwd=two_nodes.ROOT)
            store = made.store()
            until(lambda: store.running_on(made.node) or store.running_on(made.head), "one", driver)
            if what == "the machine":
                made.head.switch_off()
            else:
                (server,) = made.head.called("gcs_server")
                server.kill()
            began = time.monotonic()
            ended = driver.wait(300)
            seconds = time.monotonic() - began
        said = output.read_text()
        say(f"head lost ({what}): the driver ended with {ended} after {seconds:.0f} s")
        assert ended in (3, 75), said
        assert f"the Ray cluster at {made.address} has not answered for" in said
        assert "Traceback" not in said
        with two_nodes.cluster(made):
            again = made.sweeper("run", file, "--address", made.address)
        assert again.returncode == 0, again.stderr
        assert {record.state for record in store.records()} == {"done"}

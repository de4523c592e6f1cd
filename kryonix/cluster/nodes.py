"""The nodes that a platform's stack has recorded, and commands in their containers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from kryonix.cluster.errors import ClusterNotReady, CommandFailed
from kryonix.errors import ServiceUnreachable

ROLL_VARIABLE: Final = "KRYONIX_ROLL"
"""Environment variable of a run that may change nodes: their numbers (`2`, in a preview also `1,3`), or `grow:3`.

After a `+`, the numbers of nodes that have this run's inputs already, as in `2+1`: the run records it.
"""

_COMMAND_S: Final = 900
"""Seconds for a command in a container. Draining a node moves its leaders: 11 s for 86, on a busy machine longer."""
_POLL_S: Final = 0.2
_TRIES: Final = 3
_BROKER_USER: Final = "rabbitmq"
_MOVE_LEADERS: Final = """
    Others = rabbit_maintenance:primary_replica_transfer_candidate_nodes(),
    Move = fun({Number, Queue}) ->
        case [Node || Node <- rabbit_amqqueue:get_quorum_nodes(Queue), lists:member(Node, Others)] of
            [] -> ok;
            Nodes -> rabbit_quorum_queue:transfer_leadership(Queue, lists:nth(1 + Number rem length(Nodes), Nodes))
        end
    end,
    lists:foreach(Move, lists:enumerate(rabbit_amqqueue:list_local_leaders())).
"""
"""Lets other nodes lead the queues that this one leads, one queue after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedNode:
    """A node as the stack's outputs describe it. `docker` is its Docker host, empty for this machine's."""

    number: int
    name: str
    container: str
    docker: str

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> list[Self]:
        """Return the nodes of a platform's outputs, in order; none if another program made the broker."""
        return [
            cls(number=number, name=each["name"], container=each["container"], docker=each.get("docker") or "")
            for number, each in enumerate(outputs.get("broker_nodes") or (), 1)
        ]

    def drain(self) -> None:
        """Put the node into maintenance mode: it closes its clients' connections, and others lead its queues.

        Draining alone closes the connections, then stops the leaders: clients are back on other nodes at once, and
        wait there for an election after the other. So the leaders move before; a queue that has none pauses for
        milliseconds. Raises CommandFailed and ServiceUnreachable.
        """
        with suppress(CommandFailed):  # draining does it, too
            self.run(["rabbitmqctl", "eval", _MOVE_LEADERS])
        self.run(["rabbitmq-upgrade", "drain"])

    def revive(self) -> None:
        """Take the node out of maintenance mode. Raises CommandFailed and ServiceUnreachable."""
        self.run(["rabbitmq-upgrade", "revive"])

    def refuse_alarm(self) -> None:
        """Raise ClusterNotReady if the node has an alarm. Also raises CommandFailed and ServiceUnreachable.

        The management API tells of one seconds later, and `check_local_alarms` of 4.3.6 finds none.
        """
        command, said = ["rabbitmq-diagnostics", "-q", "alarms", "--formatter", "json"], ""
        for _ in range(_TRIES):
            if said := self.run(command):  # on a busy machine Docker may lose the output
                break
        if alarms := json.loads(said or "{}").get("local"):
            raise ClusterNotReady(
                f"it has an alarm, and so every node blocks publishers: {', '.join(alarms)}. If new settings are the "
                "cause (kryonix:brokerMemoryMb makes the limits of memory and disk), take them back"
            )

    def fetch(self, image: str) -> None:
        """Pull an image, unless the node's Docker host has it. Raises ClusterNotReady and ServiceUnreachable."""
        from docker.errors import APIError, ImageNotFound
        from docker.utils import parse_repository_tag

        with self.docker_host() as client:
            try:
                try:
                    client.inspect_image(image)
                except ImageNotFound:
                    repository, tag = parse_repository_tag(image)
                    client.pull(repository, tag=tag or "latest")
                    client.inspect_image(image)
            except APIError as error:
                raise ClusterNotReady(
                    f"the Docker host of {self.container} has no image {image!r}, and can't pull it: "
                    f"{error.explanation or error}. No node has been touched. Correct its name, or load it there"
                ) from error

    def run(self, command: Sequence[str]) -> str:
        """Run a command in the container, as the broker's user, and return its output.

        Raises CommandFailed and ServiceUnreachable.
        """
        with self.docker_host() as client:
            created = client.exec_create(self.container, list(command), user=_BROKER_USER)["Id"]
            try:
                output = str(client.exec_start(created).decode(errors="replace")).strip()
            except KeyboardInterrupt:
                # The command goes on in the container: what undoes it has to come after its end.
                while client.exec_inspect(created)["Running"]:
                    time.sleep(_POLL_S)
                raise
            status = client.exec_inspect(created)["ExitCode"]
        if status:
            tail = "\n".join(output.splitlines()[-12:])
            raise CommandFailed(f"`{' '.join(command)}` in {self.container} failed (status {status}):\n{tail}")
        return output

    @contextmanager
    def docker_host(self) -> Iterator[Any]:
        """Yield a client of the node's Docker host, and translate its errors. Raises ServiceUnreachable."""
        import requests  # these take as long as a tenth of a command, and most commands have no need to ask
        from docker.errors import APIError, DockerException

        from kryonix.engines.docker_client import default_host, docker_client
        from kryonix.engines.docker_ssh import SshFailed

        place = self.docker or os.environ.get("DOCKER_HOST") or "this machine"
        try:
            with closing(docker_client(self.docker or default_host(), _COMMAND_S)) as client:
                yield client
        except APIError as error:
            raise ServiceUnreachable(
                f"Docker on {place} refuses to look into {self.container}: {error.explanation or error}. Look at "
                f"`docker ps -a --filter name={self.container}` there, then run this again"
            ) from error
        except SshFailed as error:
            raise ServiceUnreachable(f"Docker on {place} can't be reached: {error}") from error
        except (DockerException, requests.RequestException, OSError) as error:
            raise ServiceUnreachable(f"Docker on {place} does not answer: {error}. Start it and run again") from error


@contextmanager
def allowed_to_change(value: str) -> Iterator[None]:
    """Let the runs of the block change nodes: a value of ROLL_VARIABLE."""
    before = os.environ.get(ROLL_VARIABLE)
    os.environ[ROLL_VARIABLE] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[ROLL_VARIABLE]
        else:
            os.environ[ROLL_VARIABLE] = before

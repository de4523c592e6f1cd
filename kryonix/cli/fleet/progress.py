"""What runs over many tenants, shown while it goes."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from kryonix.cli.live import Live
from kryonix.registry.rollouts import Rollout, RolloutTenant

__all__ = ["FleetProgress", "RolloutProgress", "wave_name"]


def wave_name(index: int) -> str:
    return "canaries" if index == 0 else f"wave {index}"


class FleetProgress:
    """How many tenants are through, shown while it is `running`."""

    def __init__(self, console: Console, title: str, total: int, done: int = 0) -> None:
        self._console, self._title, self._total, self._done = console, title, total, done
        self._live = Live(console, title, counted=True, total=total, completed=done)
        self.running = self._live.running

    def advance(self, tenant: str, problem: str = "", title: str | None = None) -> None:
        """One tenant more is through; called from any thread."""
        self._done += 1
        if problem:
            self._console.print(f"[red]failed[/red] {escape(tenant)}: {escape(problem)}", soft_wrap=True)
        title, tenant = title or self._title, escape(tenant)
        line = f"{title}: {self._done} of {self._total} tenants, now {tenant}"
        self._live.update(f"{title}: {tenant}", line, completed=self._done)


class RolloutProgress:
    """A rollout's tenants, as they are through."""

    def __init__(self, console: Console, rollout: Rollout) -> None:
        waves = 1 + max((tenant.wave for tenant in rollout.tenants), default=0)
        done = sum(tenant.status in ("done", "skipped") for tenant in rollout.tenants)
        self._title, self._waves = f"rollout {rollout.id}", waves
        self._progress = FleetProgress(console, self._title, len(rollout.tenants), done)
        self.running = self._progress.running

    def take(self, tenant: RolloutTenant) -> None:
        """How one tenant stands; called from any thread."""
        if tenant.status in ("done", "failed", "skipped"):
            title = f"{self._title}, {wave_name(tenant.wave)} of {self._waves - 1}"
            problem = tenant.error if tenant.status == "failed" else ""
            self._progress.advance(tenant.cliente_id, problem, title)

"""The stage scaled out: two servers behind nginx, on one PostgreSQL and one Redis; and what can befall those."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextlib import ExitStack
from pathlib import Path

from tests.system import services
from tests.system.faults.nemesis import Fault, Nemesis
from tests.system.faults.stage import Stage
from tests.system.stack import free_port

SECOND = "server-2"


class ScaledStage(Stage):
    """Workers and browsers come through proxies to nginx, which passes them on to two servers."""

    def __init__(self, folder: Path, *, seed: int = 0, **env: str) -> None:
        self.services = ExitStack()
        port, self.second_port = free_port(), free_port()
        self.redis = self.services.enter_context(services.redis_server(folder / "redis"))
        self.postgres = self.services.enter_context(services.postgres_server(folder / "postgres"))
        self.nginx = self.services.enter_context(services.nginx(folder / "nginx", [port, self.second_port]))
        super().__init__(
            folder,
            seed=seed,
            port=port,
            PUBLIC_URL=self.nginx.url,
            DATABASE_URL=self.postgres.url,
            REDIS_URL=self.redis.url,
            **env,
        )

    def __enter__(self) -> ScaledStage:
        super().__enter__()
        self.add_server(SECOND, port=self.second_port)
        return self

    def __exit__(self, *exc: object) -> None:
        with self.services:
            self.thaw_all()
            super().__exit__(*exc)

    @property
    def ports(self) -> dict[str, int]:
        """Both servers."""
        return {"server": self.port, SECOND: self.second_port}

    @property
    def front_port(self) -> int:
        """Where nginx listens."""
        return self.nginx.port

    def thaw_all(self) -> None:
        """The services too."""
        super().thaw_all()
        for service in (self.redis, self.postgres):
            if service.process is not None:
                service.thaw()


class ScaledNemesis(Nemesis):
    """Redis and PostgreSQL go wrong as well."""

    stage: ScaledStage

    def more(self) -> list[Fault]:
        """Instead of SQLite's lock."""
        return [
            Fault("flush Redis", 2.0, self._flush_redis),
            Fault("restart Redis", 1.5, self._restart_redis),
            Fault("freeze Redis", 1.0, self._freeze_redis),
            Fault("cut PostgreSQL's connections", 2.0, self._cut_postgres),
            Fault("restart PostgreSQL", 0.7, self._restart_postgres),
        ]

    async def _flush_redis(self) -> None:
        async with self._alone("redis"):
            self._note("flush Redis")
            await asyncio.to_thread(self.stage.redis.flush)

    async def _restart_redis(self) -> None:
        async with self._alone("redis"):
            self._note("restart Redis")
            await asyncio.to_thread(self.stage.redis.stop, signal.SIGKILL)
            await asyncio.sleep(self.luck.uniform(0.0, 3.0))
            await asyncio.to_thread(self.stage.redis.start)

    async def _freeze_redis(self) -> None:
        async with self._alone("redis"):
            self._note("freeze Redis")
            self.stage.redis.freeze()
            await asyncio.sleep(self.luck.uniform(1.0, 10.0))
            self.stage.redis.thaw()

    async def _cut_postgres(self) -> None:
        async with self._alone("postgres"):
            self._note("cut PostgreSQL's connections")
            with contextlib.suppress(Exception):  # it may be cut off itself; then there was nothing to cut
                await asyncio.to_thread(self.stage.postgres.cut_connections)

    async def _restart_postgres(self) -> None:
        async with self._alone("postgres"):
            self._note("restart PostgreSQL")
            number = self.luck.choice([signal.SIGTERM, signal.SIGKILL])
            await asyncio.to_thread(self.stage.postgres.stop, number)
            await asyncio.sleep(self.luck.uniform(0.0, 2.0))
            await asyncio.to_thread(self.stage.postgres.start)

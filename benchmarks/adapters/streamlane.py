# harness: venv = streamlane
# harness: pilot = 60000
"""Streamlane, every guarantee on: fencing, leases, attempts, time limits, validation, metrics over
HTTP, retention of finished jobs at its default. Concurrency 100, one process, payloads decoded
into a dict. Retries come after the least delay that the engine allows: none.
"""

import common
import uvloop

QUEUE = "bench"
LANE = "normal"


class Streamlane(common.Adapter):
    bulk = 500

    def run(self, coro):
        return uvloop.run(coro)

    async def open(self):
        from engine import Client

        self.client = Client(self.url, queues={"job": QUEUE})

    async def close(self):
        await self.client.close()

    async def one(self, p):
        await self.client.enqueue("job", p)

    async def many(self, ps):
        from engine import NewJob

        await self.client.enqueue_many(NewJob("job", p) for p in ps)

    def work(self, rec):
        from engine import App, Exponential, Registry
        from engine.cli.side import http_side
        from engine.runtime import serve
        from engine.settings import load_engine

        registry = Registry()
        handler = rec.async_handler(self.workload)

        @registry.job("job", queue=QUEUE, timeout_s=30, retry=Exponential(3, base_s=0))
        async def run(job, payload: dict):
            await handler(payload)

        settings = load_engine(
            {
                "ENGINE_REDIS_URL": self.url,
                "ENGINE_HTTP": "127.0.0.1:0",
                "ENGINE_CONCURRENCY": str(common.tune("conc", 100)),
                "ENGINE_LOG_LEVEL": "error",
            }
        ).settings
        serve(settings, App(registry), side=http_side)


if __name__ == "__main__":
    common.main(Streamlane)

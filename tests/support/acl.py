"""A server that asks for names and passwords, with the ACL of ``deploy/redis``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tests.support.servers import RedisTestServer

REDIS = Path(__file__).parents[2] / "deploy" / "redis"
TEMPLATE = REDIS / "users.acl"
USERS = re.findall(r"^user (\S+) on ", TEMPLATE.read_text(), re.MULTILINE)
FOR_SERVER = {"redis62": ["--redis-6.2"], "redis70": ["--redis-7.0"]}


def rendered(secrets: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``acl.sh`` on a directory of passwords."""
    return subprocess.run(
        ["sh", str(REDIS / "acl.sh"), *options, str(secrets)],
        input=TEMPLATE.read_text(),
        capture_output=True,
        text=True,
        check=True,
    )


class AclServer(RedisTestServer):
    """
    A server whose users are those of ``deploy/redis/users.acl``; its own URL is the admin's.

    Args:
        directory: Where it keeps its data, its ACL and the passwords.
        name: One of :data:`tests.support.servers.REDIS_SERVERS`.
    """

    def __init__(self, directory: Path, *, name: str = "valkey", **options: Any) -> None:
        secrets = directory / "secrets"
        secrets.mkdir(parents=True)
        for user in USERS:
            (secrets / user).write_text(self.password_of(user) + "\n")
        acl = directory / "rendered.acl"
        acl.write_text(rendered(secrets, *FOR_SERVER.get(name, [])).stdout)
        config = {"aclfile": str(acl), **options.pop("config", {})}
        super().__init__(directory, name=name, config=config, **options)

    @staticmethod
    def password_of(user: str) -> str:
        """Give the password of a user."""
        return f"secret-of-{user}"

    def url_of(self, user: str) -> str:
        """Give what a user connects to."""
        login = f"{user}:{self.password_of(user)}"
        return f"redis://{login}@127.0.0.1:{self.port}/0"

    @property
    def url(self) -> str:
        return self.url_of("admin")

"""What all sockets of a gateway share."""

from __future__ import annotations

from dataclasses import dataclass

from engine import Client, Clock
from processors.realtime.attendance import Attendance
from processors.realtime.confirming import Confirmations
from processors.realtime.counters import Counters
from processors.realtime.hub import Hub
from processors.realtime.joining import Follower
from processors.realtime.requests import Requests
from processors.realtime.socket import Socket
from processors.services.conversations import ConversationService
from processors.services.sessions import RevocationService
from processors.services.sync import SyncService
from processors.services.tickets import TicketService
from processors.services.websockets import WebSocketService
from processors.settings.gateway import GatewaySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """
    The parts of a running gateway.

    Attributes:
        settings: Its settings.
        clock: Gives time and chance.
        counters: What is counted.
        hub: Channels and sockets.
        attendance: Presence.
        confirmations: Acks and reads.
        client: Takes jobs.
        conversations: Who may follow what.
        sync: What was missed.
        tickets: Who may come in.
        revocations: Which sessions ended.
        websockets: Tells other gateways.
    """

    settings: GatewaySettings
    clock: Clock
    counters: Counters
    hub: Hub
    attendance: Attendance
    confirmations: Confirmations
    client: Client
    conversations: ConversationService
    sync: SyncService
    tickets: TicketService
    revocations: RevocationService
    websockets: WebSocketService

    def follower(self, socket: Socket) -> Follower:
        """Make what follows conversations for a socket."""
        return Follower(
            socket,
            self.hub,
            self.conversations,
            self.sync,
            attendance=self.attendance,
            settings=self.settings,
        )

    def requests(self, socket: Socket, follower: Follower) -> Requests:
        """Make what follows the frames of a socket."""
        return Requests(
            socket,
            follower,
            confirmations=self.confirmations,
            client=self.client,
            websockets=self.websockets,
            clock=self.clock,
            counters=self.counters,
        )

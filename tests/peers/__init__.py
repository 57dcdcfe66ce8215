"""
Servers of other parties, for tests and for trying things out: SMTP, APNs, FCM, web push, SMS.

Each speaks its real protocol on loopback, records what it was sent, and can be told to fail as the
real one does. ``python -m tests.peers`` starts them all by hand.
"""

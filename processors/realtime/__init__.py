"""
The WebSocket gateway.

    listener     HTTP: upgrades, probes, tickets for the application
    gateway      what stands around all sockets: start, drain, checks
    session      one socket from its ticket to its end
    requests     what a client's frames do
    joining      following a conversation: subscribe, read, pass on, in this order
    channels     conversations and users with sockets here; events in order, without gaps
    feed         the connection to Redis pub/sub, which comes back by itself
    socket       frames out, in a bounded queue
    confirming   acks and reads, gathered into jobs
    attendance   presence, written in batches
    watching     who may not stay: looked up on a timer
"""

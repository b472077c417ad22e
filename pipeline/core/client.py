"""From which number of users on a level's latencies are the load generator's own. Pure."""

from collections.abc import Iterator

from pipeline.core.record import Client, Stats

BUSY_CLIENT = 0.9  # of one core, for the busiest of its processes: a process has one
LATE_CLIENT = 0.25  # of the median TTFT: from here on latencies are partly our own
LATE_S = 0.01  # shorter delays are any scheduler's
IDLE_CLIENT = 0.05  # of the users' time between two requests: so much throughput is lost by us


def own_from(client: Client, ttft: Stats | None) -> int | None:
    """The number of users from which on latencies are partly the load generator's own; None: not its own.

    At the level measured a limit is passed; its use grows with the users, so it was passed at as many fewer of them.
    """
    over = max((share for share, _ in passed(client, ttft)), default=None)
    return None if over is None or not client.users else max(1, int(client.users / over))


def told(client: Client, ttft: Stats | None) -> Iterator[str]:
    """What a reader of the latencies and the throughput must know."""
    users = own_from(client, ttft)
    since = f" (by this measure from about {users} users on)" if users and client.users else ""
    for _, said in [*passed(client, ttft)][:1]:
        yield f"the load generator {said}: latencies are partly its own{since}"
    if client.idle_share >= IDLE_CLIENT:
        yield (
            f"users waited {client.idle_share:.0%} of the time for the load generator, between two requests: "
            "throughput is limited by it (see bench.workers)"
        )
    if client.resent:
        yield f"{client.resent} requests were sent twice: the server had closed the connection that it had kept"


def passed(client: Client, ttft: Stats | None) -> Iterator[tuple[float, str]]:
    """The limits that are passed: by how many times, and in words."""
    if client.cpu_share >= BUSY_CLIENT:
        yield client.cpu_share / BUSY_CLIENT, f"used {client.cpu_share:.0%} of its core"
    late_s = client.lag_p99_s if client.unsure_p99_s is None else client.unsure_p99_s
    if ttft and late_s > (allowed_s := max(LATE_S, LATE_CLIENT * ttft.p50)):
        late, median = f"{late_s * 1000:.0f} ms late (p99)", f"a median TTFT of {ttft.p50 * 1000:.0f} ms"
        yield late_s / allowed_s, f"ran up to {late} at {median}"

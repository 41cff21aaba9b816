"""The ledger of loss: what became of every item, by minute, tenant and signal, in ClickHouse.

| event | counted by | means |
|---|---|---|
| received | gateway | items of requests that could be read |
| rejected | gateway | of them, refused one by one; the reason beside it |
| refused | gateway | requests that were refused whole, unread ones too; the reason |
| acked | gateway | items that the client was told are accepted |
| suppressed | gateway | requests answered from memory, since they were stored before |
| stored | writer | rows that ClickHouse has |
| dead | writer | rows set aside as dead letters |
| replayed | operator | of them, stored later |
| repeated | writer | rows dropped, since a client had sent them twice |

Acked, stored, dead and repeated count under the same minute, the one in which the gateway closed
the block (header "m" of its record), so for each tenant, signal and minute that is over

    acked <= stored + dead + repeated

or items are missing. Less is acked than stored when a client gave up or a gateway died before it
could tell: a gateway that is killed takes the counts of its last seconds with it.

What is stored or replayed is also summed up as usage (table tf_usage): items and bytes by tenant,
key, signal and hour, the one in which the gateway closed the block.
"""

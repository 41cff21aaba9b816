"""Caching: in memory first, in Redis behind it when there is one."""

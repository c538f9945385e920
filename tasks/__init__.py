"""Experiments on populations of networks: make data, train metanetworks on it, evaluate them."""

from __future__ import annotations

__all__: list[str] = []

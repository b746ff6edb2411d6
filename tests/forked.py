"""Processes of tests that are killed, or that are ranks: forked from one that has imported all."""

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.e2e.running", "torch.distributed.fsdp"])

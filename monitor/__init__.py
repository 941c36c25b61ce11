# SPDX-License-Identifier: Apache-2.0
"""estop's monitor: sees what an agent's process tree does in the kernel, and stops it.

Read `pipeline.py` first.
"""

__version__ = "0.1.0"

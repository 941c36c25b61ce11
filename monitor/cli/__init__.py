# SPDX-License-Identifier: Apache-2.0
"""The `estop` command. `main.main` is the way in."""

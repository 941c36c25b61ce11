# SPDX-License-Identifier: Apache-2.0
"""estop's launcher and demo: starts an agent under watch; talks to the monitor over its socket."""

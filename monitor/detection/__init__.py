# SPDX-License-Identifier: Apache-2.0
"""Stage 3: says which signatures an event matches."""

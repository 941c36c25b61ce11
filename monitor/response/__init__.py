# SPDX-License-Identifier: Apache-2.0
"""Stage 4: what is done about a match; the only code that stops anything."""

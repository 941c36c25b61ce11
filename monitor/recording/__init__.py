# SPDX-License-Identifier: Apache-2.0
"""What a session did, as the facts that rules see, in a file that can be judged again later."""

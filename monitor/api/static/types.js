// SPDX-License-Identifier: Apache-2.0
/**
 * The API's structs, for the type checker alone: see /api/v1/openapi.json for what they mean.
 *
 * @typedef {"viewer" | "responder" | "admin"} Role
 * @typedef {{name: string, role: Role}} Me
 * @typedef {{id: string, name: string}} SessionRef
 * @typedef {{id: string, title: string, level: string, author?: string, tags?: string[]}} RuleRef
 * @typedef {{action: string, detail?: string, bytes_out?: number | null}} Outcome
 *
 * @typedef {object} Session
 * @property {string} id
 * @property {string} name
 * @property {string} state
 * @property {string} mode
 * @property {string} origin
 * @property {string} cgroup
 * @property {number} root_pid
 * @property {number} uid
 * @property {string[]} [argv]
 * @property {string} [started]
 * @property {string} [ended]
 * @property {number | null} [exit_code]
 * @property {number} [processes]
 * @property {number} [events]
 * @property {string[]} [hardening]
 *
 * @typedef {object} Care
 * @property {string} [state]
 * @property {string} [by]
 * @property {string} [time]
 * @property {string} [why]
 * @property {string} [assignee]
 *
 * @typedef {object} Alert
 * @property {string} id
 * @property {string} time
 * @property {SessionRef} session
 * @property {RuleRef} rule
 * @property {string} response
 * @property {Outcome} outcome
 * @property {{category?: string, verdict?: string, fields?: Record<string, any>}} event
 * @property {Record<string, number>} [timings_ns]
 * @property {Record<string, any> | null} [evidence]
 * @property {Care} [care]
 *
 * @typedef {object} ActionRecord
 * @property {string} id
 * @property {string} time
 * @property {SessionRef} session
 * @property {string} verb
 * @property {string} who
 * @property {string} why
 * @property {Outcome} outcome
 * @property {Record<string, number>} [timings_ns]
 *
 * @typedef {object} Incident
 * @property {string} id
 * @property {SessionRef} session
 * @property {string} opened
 * @property {string} state
 * @property {string} title
 * @property {string} level
 * @property {string} sentence
 * @property {string} [cause]
 * @property {Care} [care]
 * @property {string} [resolved]
 * @property {string} [resolution]
 * @property {string} [resolved_by]
 * @property {string} [why]
 *
 * @typedef {object} TreeProcess
 * @property {number} pid
 * @property {number} parent_pid
 * @property {string} image
 * @property {string[]} argv
 * @property {number} started_ns
 * @property {boolean} guilty
 * @property {boolean} alive
 *
 * @typedef {object} Moment
 * @property {number} at_ms
 * @property {string} time
 * @property {string} kind
 * @property {number} pid
 * @property {string} text
 * @property {string} alert
 * @property {boolean} guilty
 * @property {boolean} refused
 *
 * @typedef {object} Sent
 * @property {number | null} bytes
 * @property {number | null} total_bytes
 * @property {{address: string, port: number, host: string, count: number, local: boolean}[]} destinations
 *
 * @typedef {object} Detail
 * @property {Alert[]} alerts
 * @property {ActionRecord[]} actions
 * @property {TreeProcess[]} tree
 * @property {Moment[]} timeline
 * @property {{path: string, did: string}[]} changed
 * @property {Sent} sent
 * @property {RuleInForce | null} rule
 * @property {Session} session_now
 * @typedef {Incident & Detail} Whole
 *
 * @typedef {object} RuleInForce
 * @property {string} id
 * @property {string} title
 * @property {string} level
 * @property {string} response
 * @property {string} category
 * @property {string} [name]
 * @property {string} [author]
 * @property {string} [description]
 * @property {string[]} [tags]
 * @property {string[]} [falsepositives]
 * @property {string} [file]
 * @property {string} enforcement
 * @property {string} enforcement_why
 *
 * @typedef {object} Grant
 * @property {string} id
 * @property {SessionRef} session
 * @property {string} rule
 * @property {string} title
 * @property {Record<string, any>} fields
 * @property {string} created
 * @property {string} expires
 * @property {string} who
 * @property {string} why
 * @property {string} revoked
 *
 * @typedef {object} Health
 * @property {boolean} ok
 * @property {string[]} problems
 * @property {string} version
 * @property {string} tier
 * @property {Record<string, boolean>} programs
 * @property {string[]} hooks_missing
 * @property {Record<string, number>} lost
 * @property {number} rules
 * @property {string[]} disarmed
 * @property {number} sessions
 * @property {Record<string, any>} store
 * @property {number} uptime_s
 */
export {};

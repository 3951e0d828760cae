"""The detector's constants, each with its reason. They hold for every site; the one knob is `Policy.threshold` (T).

Where a reason names a cost, it was measured on labelled replays of real mail: moving any of these by a factor of 0.6 to
1.7 costs at most about a point of detection, save the ones marked sharp.
"""

from __future__ import annotations

HOUR_MS = 3_600_000
DAY_MS = 86_400_000

SCALES = 5
SCALE_NAMES = ("1h", "6h", "24h", "10m", "1m")
SLOW = 3  # of them every sender has; the day does the work, the fast two see a busy relay's jump within minutes
SCALE_HOURS = (1.0, 6.0, 24.0, 1 / 6, 1 / 60)
SCALE_MS = (HOUR_MS, 6 * HOUR_MS, DAY_MS, HOUR_MS // 6, HOUR_MS // 60)
HOUR = 0  # the hour's place among the scales
DAY = 2  # the day's
NOTHING = 1e-12  # what fades to less is gone: no power of it underflows

GROWTH = (
    4.0,
    3.0,
    3.0,
    2.5,
    3.0,
)  # a record beyond three times the old one is rare; the hour's is larger: mail-outs are short
FAST_LEAST = 30.0  # messages that a known sender must remember of a fast scale for it to speak: quiet ones have none
FAST_TERM_MS = HOUR_MS // 6  # a minute's excess is answered for ten: a decision a minute would only be noise
TENURE = 3.0  # limits are wider by 1 + TENURE / active days: records are common early
PROBATION_DAYS = 3
PROBATION_GROWTH = 2.75  # sharp: usual warm-up schedules grow by 2 to 2.5 a day

FLOOR = 0.8  # a known sender may do nearly what a stranger may,
FLOOR_AGE_DAYS = 50.0  # less as its own record grows,
FLOOR_LEAST = 0.3  # and never less than this share

HALF_LIFE_DAYS = 120.0  # quarterly mail-outs are remembered; 30 days double the loss of established mail
CLIP = 4.0  # a first mail-out is learned in one or two issues
BRAKE = 8.0  # beyond this many newcomer limits
BRAKE_GROWTH = 1.5  # a memory grows by this much an active day: the bound on slow poisoning

REJECTED_WEIGHT = 6.0  # only for keys of which nothing was ever accepted

TYPICAL_WEIGHT_FIRST = 4.0
TYPICAL_WEIGHT_MOST = 60.0
WEIGHT_UNITS = 1000.0  # of a day, as a row keeps the weight
IDLE_DAYS = 7
IDLE_FADE_DAYS = 30.0

NEWCOMER_MS = DAY_MS  # a newcomer's first day is what the cohort learns
LEARN_AFTER_MS = 2 * DAY_MS  # before that everybody looks new: no crowd teaches
NEWCOMER_SHARE = (10.0, 20.0, 20.0)  # newcomer limit = this x Q90: a large factor on Q90 needs 30 newcomers, Q99 1,000
QUANTILE = 0.9
QUANTILE_LEAST = 1.0  # message: what is learned from a site that turns most newcomers away
BINS = 96
BINS_PER_OCTAVE = 6
PRIOR_MASS, PRIOR_RATIO, PRIOR_BINS = 12.0, 0.85, 39  # worth 68 newcomers
HALVE_EVERY = 500  # counted newcomers: the cohort follows the site
REFRESH_EVERY = 32  # new keys between two readings of the quantiles
NEIGHBOURS = (
    4.0  # a newcomer counts if it is among so many new keys of its /16 (IPv6: /48) within a day: snowshoe and rotation
)
NEIGHBOUR_SLOTS = 1024  # don't teach; 256 to 65,536 slots measure the same
CONTRIBUTION_CAP = 1.5  # x Q90: one newcomer can't drag the quantile far

RATE_FLOOR_PER_H = 0.5
NEWCOMER_RATE_SHARE = 0.25  # of the limit, spread over its scale
RATE_FALL = 0.8  # a decision is worth repeating when its rate falls to this share,
RATE_RISE = 1.25  # or rises to this one, since enough was held back
ESTABLISHED = 30.0  # days behind `typical`: a month of active days, none of them long ago
BIG = 1.0  # x the newcomer's daily limit: small senders' records are answered at once, as compromised hosts are small
CAP = 5.0  # x its best day: so much may be held back of it in a day, then it goes on at its hourly limit again
MILD = 2.0  # an established, big sender's first excess goes on at its hourly limit, as far as so many limits
SATURATED = 65_535

FREE_SHARE = 16  # of the table: with less than 1/16 free, newcomers wait at the door; a sweep frees as much at once
KEEP_PROBATION_MS = (
    3 * DAY_MS
)  # what a row of one to three active days is kept for after its last event, newcomers nothing
KEEP_KNOWN_MS = (
    10 * DAY_MS
)  # a known sender's, for each active day: a weekly newsletter by its fourth issue, for 40 days
KEEP_MOST_MS = 365 * DAY_MS  # a yearly mail-out
SWEEP_AGAIN_MS = HOUR_MS  # event time until a sweep that found too little is tried again

DOOR_BITS = 20  # 2^20 bits: 128 KiB
DOOR_HASHES = 4
DOOR_KEYS = 1 << 17  # waiting; then the door forgets them: one in 40 is let in unseen at the end, one in 180 on average

PREFIX_SHIFTS = (
    8,
    16,
    32,
)  # IPv4 /24 and /16; IPv6 /56, /48 and /32, what one provider is given. An IPv4 /8 is nobody's
PREFIX_BITS_V4, PREFIX_BITS_V6 = 32, 64  # of a key
PREFIX_NEWCOMERS = (4.0, 16.0, 64.0)  # newcomer limits that the keys without a row of a prefix may use up in an hour
PREFIX_TERM_MS = HOUR_MS
PREFIX_WAYS = 8  # places a prefix may have
PREFIX_SETS = 128

NARROW, WIDE, RELAY = 0, 1, 2  # pools: /24 (IPv6: /56), /16 (/48), and relays that the operator has announced
POOL_MS = HOUR_MS
POOL_AGE_MS = 7 * DAY_MS  # of the keys that a pool is made of: established senders are never counted
POOL_KEYS = 24.0  # new keys within the hour that make a pool suspicious; honest pools of 64 come to 17
POOL_KEYS_MORE = 2.0  # than its share, in one of several partitions: shares vary
POOL_KEYS_LEAST = 3.0
POOL_FACTOR = (4.0, 2.0)  # and so many times the volume that is usual
POOL_SPREAD = 1.2  # standard deviations above the log mean: what is usual
POOL_ALARM_MS = DAY_MS  # a crowd that has come is watched by its volume alone: within an hour nobody in it is new
POOL_RATE_PER_H = 0.25
POOL_TERM_MS = HOUR_MS
POOL_THROTTLES = 4096.0  # of newcomers in an hour and a partition: a flood must not become one of decisions
ROWS_PER_POOL = 16
POOLS_LEAST = 64
POOL_WAYS = 8  # places a pool may have: their keys are one cache line

BUDGET = 0.00415  # of regular mail, at T = 1;
BUDGET_POWER = 1.2  # T falls by so much in logarithms as the budget rises
OBSERVED = 0.1  # busy hours booked a message deferred, measured on all traces at volumes x 1, 5 and 20: 0.07 to 0.18
FOLLOW_DAYS = 90.0  # what is booked fades: shorter swings with single records
BELIEF = 20_000.0  # messages of known senders that the budget itself is worth as evidence: a quiet site stays at T
LEAN_STEP = 0.03  # a day, of log T: an attacker needs 46 days for the bound
LEAN_MOST = 4.0

GUARD_BUDGETS = 20.0  # x budget: the share of known senders whose throttles don't count; usual is a thousandth of it
GUARD_CAP = 0.5  # and never more than this share
GUARD_SENDERS = (
    6.0  # beyond that share: the traces' most is one, and an attacker needs as many known hosts in a partition
)
GUARD_FREE_MS = 30_000  # a sender that sends freely counts once in so long: a busy relay speaks for one sender
GUARD_FORGET_MS = HOUR_MS  # an excess that has taken longer is none
GUARD_QUIET_MS = 10 * 60_000  # event time after which it is asked whether decisions would be within the share again
SUSPECTS = 256  # decisions to take back; so many within an hour are one reason more to do so

LEARN_LEAST_DAYS = 2  # before that everybody looks new
LEARN_NEWCOMERS = 16  # newcomers that make a cohort credible
LEARN_SHARE = 2.0  # x budget: so much of a day may be held back in the shadow for the next to be decided
FAR_DAY = 1 << 40
STRETCH_LEAST = 10.0  # first senders whose median is worth following
STRETCH_FROM = 9  # bin of two messages: up to there the prior fits as it is
STRETCH_UNIT = 6  # bin of one message, the median newcomer's day that the prior is made for

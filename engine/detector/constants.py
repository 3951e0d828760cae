"""The detector's constants, each with its reason. They hold for every site; operators set only `Policy.threshold` (T).

Costs were measured on labelled replays of real mail. Changing one constant by a factor of 0.6 to 1.7 costs about one point
of detection at most, except for those marked sharp.
"""

from __future__ import annotations

HOUR_MS = 3_600_000
DAY_MS = 86_400_000

# Scales: time constants of the decayed counters.
SCALES = 5
SCALE_NAMES = ("1h", "6h", "24h", "10m", "1m")
SLOW = 3  # the first three scales, kept for every sender; the last two show a busy relay's jump within minutes
SCALE_HOURS = (1.0, 6.0, 24.0, 1 / 6, 1 / 60)
SCALE_MS = (HOUR_MS, 6 * HOUR_MS, DAY_MS, HOUR_MS // 6, HOUR_MS // 60)
HOUR = 0  # index of the scale of one hour
DAY = 2  # index of the scale of one day
NEGLIGIBLE = 1e-12  # a smaller decay factor becomes 0, so that none of its powers underflows

# Limits of known senders and of senders on probation.
GROWTH = (4.0, 3.0, 3.0, 2.5, 3.0)  # x the baseline: more than 3x is rare; 4x per hour, as mail-outs are short
FAST_LEAST = (
    30.0  # messages in a fast scale's baseline before that scale limits a sender: quiet senders have no burst rate
)
FAST_TERM_MS = HOUR_MS // 6  # a throttle for one minute's excess lasts ten: one decision a minute is only noise
TENURE = 3.0  # limits are wider by 1 + TENURE / active days, because new maxima are common early on
PROBATION_DAYS = 3
PROBATION_GROWTH = 2.75  # sharp: usual warm-up schedules grow by 2 to 2.5 a day

# A known sender's least limit, as a share of a newcomer's.
FLOOR = 0.8
FLOOR_AGE_DAYS = 50.0  # the share falls as the sender's own history grows
FLOOR_LEAST = 0.3

# Baseline: the decayed maximum of a sender's own daily peaks.
HALF_LIFE_DAYS = 120.0  # keeps quarterly mail-outs; 30 days double the loss of established mail
CLIP = 4.0  # x the own limit: a first mail-out is learned in one or two issues
BRAKE = 8.0  # x the newcomer limit: above this a baseline grows slowly
BRAKE_GROWTH = 1.5  # per active day: the bound on slow poisoning

REJECTED_WEIGHT = 6.0  # of a rejected message, for a sender that never had one accepted

# Typical busy hour: a weighted log mean over active days.
TYPICAL_WEIGHT_FIRST = 4.0
TYPICAL_WEIGHT_MOST = 60.0
WEIGHT_UNITS = 1000.0  # a row stores the weight in 1/1000 of a day
IDLE_DAYS = 7
IDLE_DECAY_DAYS = 30.0

# Cohort: the site's newcomers.
NEWCOMER_MS = DAY_MS  # the cohort learns a newcomer's first day
LEARN_AFTER_MS = 2 * DAY_MS  # every sender looks new before this, so no pool trains the site
NEWCOMER_SHARE = (10.0, 20.0, 20.0)  # newcomer limit = share x Q90: Q90 needs 30 newcomers, Q99 would need 1,000
QUANTILE = 0.9
QUANTILE_LEAST = 1.0  # message: the Q90 of a site that rejects most newcomers
BINS = 96
BINS_PER_OCTAVE = 6
PRIOR_MASS, PRIOR_RATIO, PRIOR_BINS = 12.0, 0.85, 39  # worth 68 newcomers
HALVE_EVERY = 500  # counted newcomers: older ones lose half their weight, so the cohort follows the site
REFRESH_EVERY = 32  # new senders between two updates of the quantiles
NEIGHBOURS = 4.0  # new senders per /16 (IPv6: /48) and day that train the cohort: snowshoe and rotation must not
NEIGHBOUR_SLOTS = 1024  # 256 to 65,536 slots measure the same
CONTRIBUTION_CAP = 1.5  # x Q90: one newcomer can't move the quantile far
RESCALE_LEAST_SENDERS = 10.0  # first senders needed to move the prior to their median
RESCALE_FROM_BIN = 9  # bin of two messages: up to this median the prior fits unchanged
RESCALE_UNIT_BIN = 6  # bin of one message, the median newcomer's day that the prior is made for

# Rates and terms of throttles.
RATE_FLOOR_PER_H = 0.5
NEWCOMER_RATE_SHARE = 0.25  # of the limit, spread over its scale
RATE_FALL = 0.8  # a decision is published again when its rate falls to this share,
RATE_RISE = 1.25  # or rises to this one because enough was deferred
ESTABLISHED_DAYS = 30.0  # weight of the typical busy hour: a month of active days, none of them long ago
BIG = 1.0  # x the newcomer's daily limit; smaller senders are throttled immediately, as compromised hosts are small
CAP = 5.0  # x the best day: once this many messages were deferred in a day, the sender continues at its hourly limit
MILD = 2.0  # x each limit: up to here an established, big sender's first excess continues at its hourly limit
SATURATED = 65_535  # greatest value of a uint16 counter

# Table of rows, admission filter and eviction.
FREE_SHARE = 16  # below 1/16 free rows the admission filter decides; a sweep frees as many
KEEP_PROBATION_MS = 3 * DAY_MS  # after the last event, for a row of one to three active days; newcomers get nothing
KEEP_KNOWN_MS = 10 * DAY_MS  # per active day of a known sender: a weekly newsletter's fourth issue is kept for 40 days
KEEP_MOST_MS = 365 * DAY_MS  # covers a yearly mail-out
SWEEP_AGAIN_MS = HOUR_MS  # event time until a sweep that found too few rows is tried again
FILTER_BITS = 20  # 2^20 bits: 128 KiB
FILTER_HASHES = 4
FILTER_KEYS = 1 << 17  # then the filter is cleared: false positives are 1 in 180 on average, 1 in 40 when full

# Prefixes, for senders without a row.
PREFIX_SHIFTS = (8, 16, 32)  # IPv4 /24 and /16; IPv6 /56, /48 and /32, an allocation. An IPv4 /8 has no single owner
PREFIX_BITS_V4, PREFIX_BITS_V6 = 32, 64  # bits of a key that name the network
PREFIX_NEWCOMERS = (4.0, 16.0, 64.0)  # newcomer limits that a prefix's senders without a row may use up in an hour
PREFIX_TERM_MS = HOUR_MS
PREFIX_WAYS = 8  # slots per set
PREFIX_SETS = 128

# Pools of newcomers.
NARROW, WIDE, RELAY = 0, 1, 2  # levels: /24 (IPv6: /56), /16 (/48), relay announced by the operator
POOL_MS = HOUR_MS
POOL_AGE_MS = 7 * DAY_MS  # only younger senders count in a pool, so established ones never do
POOL_KEYS = 24.0  # new senders within an hour that make a pool suspicious; honest pools of 64 reach 17
POOL_KEYS_MORE = 2.0  # added to a partition's share, because shares vary
POOL_KEYS_LEAST = 3.0
POOL_FACTOR = (4.0, 2.0)  # x the usual volume, by level
POOL_SPREAD = 1.2  # standard deviations above the log mean: the usual volume
POOL_ALARM_MS = DAY_MS  # after an alarm the volume alone decides, because no sender is new after an hour
POOL_RATE_PER_H = 0.25
POOL_TERM_MS = HOUR_MS
POOL_THROTTLES = 4096.0  # per hour and partition: a flood of senders must not become a flood of decisions
ROWS_PER_POOL = 16
POOLS_LEAST = 64
POOL_WAYS = 8  # slots per pool: their keys share one cache line

# Budget.
BUDGET = 0.00415  # share of regular mail that is deferred at T = 1
BUDGET_POWER = 1.2  # log T falls by this much per log of budget
OBSERVED_SHARE = 0.1  # busy hours charged per deferred message; 0.07 to 0.18 on the traces at volumes x 1, 5 and 20
BUDGET_DECAY_DAYS = 90.0  # shorter values make T swing with single excesses
BUDGET_PRIOR = 20_000.0  # messages of known senders that the target weighs as evidence: a quiet site keeps T
THRESHOLD_STEP = 0.03  # of log T per day: an attacker needs 46 days to reach the bound
THRESHOLD_SCALE_MOST = 4.0

# Circuit breaker.
BREAKER_BUDGETS = 20.0  # x budget: share of known senders whose throttles are tolerated; usual is a thousandth of it
BREAKER_SHARE_MOST = 0.5
BREAKER_SENDERS = 6.0  # above that share: the traces reach 1; an attacker needs as many known hosts in one partition
BREAKER_WINDOW_MS = (
    30_000  # a sender that is not throttled counts once per window, so a busy relay counts as one sender
)
BREAKER_FORGET_MS = HOUR_MS  # an excess older than this is discarded
BREAKER_REARM_MS = 10 * 60_000  # event time between two checks of an open breaker
BREAKER_SUSPECTS = 256  # throttles that can be withdrawn; this many within an hour trip the breaker as well

# Learning of a new site.
LEARN_LEAST_DAYS = 2  # every sender looks new before this
LEARN_NEWCOMERS = 16  # newcomers that make a cohort credible
LEARN_SHARE = 2.0  # x budget: a day may suppress up to this share of its mail for the site to start deciding
FAR_DAY = 1 << 40

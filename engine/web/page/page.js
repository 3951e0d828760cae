// Polls the worker every two seconds while the page is visible. All text is inserted as text, never as markup.
"use strict";

const POLL_MS = 2000;
const at = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const timeText = (ms) => (Math.abs(Date.now() - ms) < 43200000 ? clock : day).format(ms);

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function amount(value) {
  return value === null || value === undefined ? "none" : value >= 100 ? whole.format(value) : short.format(value);
}

function fillList(list, nodes, emptyText) {
  list.replaceChildren(...(nodes.length ? nodes : [make("li", "nothing", emptyText)]));
}

async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error || response.statusText);
  return body;
}

// Returns the address of a network that is one sender, "" for a wider one.
function soleAddress(network) {
  const [address, length] = network.split("/");
  return !length || length === (address.includes(":") ? "64" : "32") ? address : "";
}

function networkLink(network) {
  const address = soleAddress(network);
  if (!address) return make("span", "who", network);
  const link = make("a", "who", address.includes(":") && network.includes("/") ? network : address);
  link.href = `#/sender/${encodeURIComponent(address)}`;
  return link;
}

function listItem(first, when, why, ...tags) {
  const item = make("li");
  const name = make("span");
  name.append(first);
  for (const tag of tags) if (tag) name.append(make("span", tag === "shadow" ? "tag shadow" : "tag", tag));
  item.append(name, make("span", "when", when), make("span", "why", why));
  return item;
}

// ---- home

function eventRate(samples) {
  const last = samples[samples.length - 1];
  const before = samples.findLast((sample) => last[0] - sample[0] >= 1500) || samples[0];
  const seconds = Math.max((last[0] - before[0]) / 1000, 0.001);
  return samples.length > 1 ? (last[1] - before[1]) / seconds : 0;
}

// Draws the sum of the workers' rates; their latest samples count as simultaneous.
function drawSparkline(histories) {
  const rows = histories.map((samples) => {
    const rates = samples.slice(1).map((sample, i) => (sample[1] - samples[i][1]) / Math.max((sample[0] - samples[i][0]) / 1000, 0.001));
    return (rates.length > 1 ? rates.slice(0, -1) : rates).reverse(); // the latest interval is too short for a rate
  });
  const rates = Array.from({ length: Math.max(...rows.map((row) => row.length)) }, (_, i) => sum(rows, (row) => row[i] ?? 0)).reverse();
  const highest = Math.max(...rates, 1);
  const points = rates.map((rate, i) => `${((240 * i) / Math.max(rates.length - 1, 1)).toFixed(1)},${(42 - (38 * rate) / highest).toFixed(1)}`);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", points.length > 1 ? `M0,44 L${points.join(" L")} L240,44` : "M0,44");
  at("spark").replaceChildren(path);
}

function tile(id, text, state) {
  at(id).textContent = text;
  at(id).parentElement.classList.toggle("warn", state === "warn");
  at(id).parentElement.classList.toggle("bad", state === "bad");
}

function sum(list, value) {
  return list.reduce((total, one) => total + value(one), 0);
}

function throttlesPerMinute(samples) {
  const last = samples[samples.length - 1];
  const before = samples.find((sample) => sample[0] > last[0] - 60000) || samples[0];
  return last[2] - before[2];
}

function showTiles(overview, parts) {
  const partitions = parts.flatMap((part) => Object.values(part.status.partitions));
  const lag = Math.max(0, ...partitions.map((one) => one.lag_s));
  const messages = sum(partitions, (one) => one.established.messages);
  const deferred = sum(partitions, (one) => one.established.deferred);
  const used = messages ? deferred / messages / partitions[0].established.budget : 0;
  tile("rate", whole.format(sum(parts, (part) => eventRate(part.rates))));
  tile("throttles", whole.format(sum(parts, (part) => throttlesPerMinute(part.rates))));
  const inShadow = overview.in_shadow ? ` + ${whole.format(overview.in_shadow)} in shadow` : "";
  tile("active", whole.format(overview.active) + inShadow + (overview.caught_up ? "" : "…"));
  tile("lag", lag < 1 ? "none" : `${whole.format(lag)} s`, lag > 60 ? "bad" : lag > 10 ? "warn" : "");
  tile("budget", percent.format(used), used > 1 ? "bad" : used > 0.8 ? "warn" : "");
  tile("keys", whole.format(sum(parts, (part) => part.status.keys)));
  drawSparkline(parts.map((part) => part.rates));
}

function showDecisions(decisions) {
  const list = at("decisions");
  const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const nodes = decisions.map((one) => listItem(networkLink(one.network), `until ${timeText(one.until)}`, one.words, one.reason, one.shadow && "shadow"));
  fillList(list, nodes, at("filter").value ? "No active throttle matches." : "No sender is throttled.");
  if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function showTopSenders(parts) {
  const senders = parts.flatMap((part) => part.top_senders).sort((a, b) => a.expected - a.messages - (b.expected - b.messages));
  const nodes = senders.slice(0, 15).map((one) => {
    const baseline = one.active_days ? `its baseline is ${amount(one.expected)}` : `a newcomer; newcomers send up to ${amount(one.expected)}`;
    return listItem(networkLink(one.address), `${amount(one.messages)} messages`, baseline, one.until ? (one.shadow ? "shadow" : "throttled") : "");
  });
  fillList(at("top-senders"), nodes, "Every sender is within its baseline.");
}

function row(cells) {
  const line = make("tr");
  line.append(...cells.map((cell) => (cell instanceof Node ? cell : make("td", "", cell))));
  return line;
}

function partitionRows(part) {
  const rows = Object.entries(part.status.partitions).map(([number, one]) => [number, [
    one.lag === null ? "?" : whole.format(one.lag), short.format(one.lag_s), whole.format(one.keys),
    percent.format(one.keys / one.capacity), whole.format(one.throttled),
    percent.format(one.established.share / one.established.budget), one.decides ? one.threshold.toFixed(2) : "learning",
    `${short.format(one.checkpoint_age_s)} s`]]);
  const restoring = Object.entries(part.status.restoring).map(([number, one]) => [number, [`being restored: ${percent.format(one.share)}`, ...Array(7).fill("")]]);
  return [...rows, ...restoring].map(([number, cells]) => [Number(number), row([number, ...cells, part.worker])]);
}

function showEngine(overview, parts) {
  const { edges, missing } = overview;
  const rows = parts.flatMap(partitionRows).sort((a, b) => a[0] - b[0]);
  at("partitions").replaceChildren(...rows.map((one) => one[1]));
  at("engine").classList.toggle("alone", parts.length === 1);
  const silent = Object.entries(edges.silent).map(([name, seconds]) => `edge ${name} sent its last heartbeat ${whole.format(seconds)} s ago`);
  const problems = [...parts.flatMap((part) => part.problems.map((text) => (part === overview ? text : `worker ${part.worker}: ${text}`))), ...silent];
  const latencies = parts.map((part) => part.status.since_start.decision_s.p99).filter((seconds) => seconds !== null);
  at("facts").textContent = [
    `worker ${overview.worker}`, `shown: ${rows.length} of ${overview.partitions} partitions, of ${parts.length} ${parts.length === 1 ? "worker" : "workers"}`,
    `configuration ${overview.status.config.slice(0, 19)}`, ...(overview.status.shadow ? [`in shadow mode, so edges log deferrals without applying them: ${overview.status.shadow}`] : []),
    `${whole.format(sum(parts, (part) => part.status.events))} events in total`,
    `${edges.alive} edges alive`, ...silent,
    latencies.length ? `99 % of decisions within ${Math.max(...latencies)} s of the event` : "no decision since the start"].join(" · ");
  const count = problems.length;
  at("pill").textContent = count ? (count === 1 ? "1 problem" : `${count} problems`) : missing.length ? "healthy, as far as shown" : "healthy";
  at("pill").className = `pill ${count ? "bad" : missing.length ? "warn" : "good"}`;
  at("problems").hidden = !count;
  at("problems").replaceChildren(...problems.map((text) => make("li", "", text)));
  at("missing").hidden = !missing.length;
  at("missing").replaceChildren(...missing.map((text) => make("li", "", text)));
}

function overrideItem(one) {
  const until = one.until ? `until ${timeText(one.until)}` : "until cancelled";
  const action = one.ended ? "ended" : `${one.action || one.kind || "exempt"} ${until}`;
  return listItem(networkLink(one.network), timeText(one.at), [action, one.reason, one.by && `by ${one.by}`].filter(Boolean).join(" · "));
}

let search = "";

async function refreshHome() {
  const overview = await get("/v1/overview");
  const parts = [overview, ...overview.others];
  showTiles(overview, parts);
  showTopSenders(parts);
  showEngine(overview, parts);
  showDecisions(search ? await get(`/v1/decisions?search=${encodeURIComponent(search)}`) : overview.decisions);
  const overrides = await get("/v1/overrides");
  fillList(at("overrides"), overrides.overrides.map(overrideItem), "None.");
  at("override").hidden = !overrides.writable;
  at("read-only").hidden = overrides.writable;
  fillList(at("override-history"), overrides.history.map(overrideItem), "No override so far.");
}

async function submitOverride(form) {
  const { token, ...fields } = Object.fromEntries(new FormData(form));
  at("override-result").className = "quiet";
  at("override-result").textContent = "Sending…";
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  const response = await fetch("/v1/overrides", { method: "POST", headers, body: JSON.stringify(fields) });
  const result = await response.json();
  at("override-result").className = response.ok ? "verdict free" : "verdict throttled";
  at("override-result").textContent = result.error || result.changes.map((one) => `${one.kind} ${one.network}: ${one.text}`).join("; ");
  if (response.ok) for (const name of ["network", "until", "owner", "reason"]) form.elements[name].value = "";
  refresh();
}

// ---- a sender's page

let plotted = "";

function showCounts(counts) {
  at("counts").replaceChildren(...counts.map((one) => {
    const share = one.limit ? one.observed / one.limit : 0;
    const meter = make("span", one.exceeded ? "meter over" : "meter");
    const fill = make("span");
    fill.style.width = `${Math.min(100, 100 * share)}%`;
    meter.append(fill);
    const cell = make("td", "meters");
    cell.append(meter);
    cell.title = percent.format(share);
    return row([one.scale, make("td", one.exceeded ? "over" : "", amount(one.observed)), amount(one.expected), amount(one.limit), cell]);
  }));
}

const STAGES = {
  newcomer: "a newcomer, compared with other newcomers to this site",
  probation: "on probation (few active days), compared with those days and a minimum",
  known: "a known sender, compared with its own baseline",
};

function showHistory({ past, partition, worker }) {
  const owner = `partition ${partition}, worker ${worker}`;
  at("past").textContent = past ? [
    STAGES[past.stage], `${past.active_days} active days since ${timeText(past.first_seen_ms)}`, `last seen ${timeText(past.last_seen_ms)}`,
    `${whole.format(past.accepted)} messages accepted, ${whole.format(past.rejected)} rejected`,
    `${short.format(past.typical_per_h)} in a typical busiest hour`, owner].join(" · ") : `This sender is not tracked (${owner}).`;
}

async function showPlot(address) {
  if (plotted === address) return;
  plotted = address;
  at("plot").removeAttribute("src");
  at("plot-caption").textContent = "Plotting the last day…";
  try {
    const response = await fetch(`/v1/senders/${encodeURIComponent(address)}/plot.svg`);
    if (!response.ok) throw new Error((await response.json()).error);
    await response.arrayBuffer();
    if (shownAddress() !== address) return;
    at("plot").src = `/v1/senders/${encodeURIComponent(address)}/plot.svg`;
    at("plot").alt = `messages of ${address} in the last day, expected messages, limit and throttles`;
    at("plot-caption").textContent = "Expected messages and limit are the current ones; tidegate plot computes them for each event.";
  } catch (error) {
    at("plot-caption").textContent = error.message;
  }
}

async function refreshSender(address) {
  let sender;
  try {
    sender = await get(`/v1/senders/${encodeURIComponent(address)}`);
  } catch (error) {
    if (shownAddress() !== address) return;
    at("network").textContent = address;
    at("sender-error").textContent = error.message;
    at("sender-error").hidden = false;
    at("details").hidden = true;
    at("verdict").textContent = at("release").textContent = "";
    return;
  }
  if (shownAddress() !== address) return;
  at("sender-error").hidden = true;
  at("details").hidden = false;
  at("network").textContent = sender.network;
  const rate = sender.allowed ? `${amount(60 * sender.allowed.rate_per_min)} messages per hour may pass, in bursts of ${amount(sender.allowed.burst)}` : "";
  at("verdict").className = `verdict ${sender.throttled ? "throttled" : "free"}`;
  const until = `until ${timeText(sender.until)} (${sender.reason || "from the engine's state"}): ${rate}`;
  const passes = sender.shadow ? `In shadow mode, so its mail passes. Otherwise throttled ${until}` : "Not throttled";
  at("verdict").textContent = sender.throttled ? `Throttled ${until}` : passes;
  at("release").textContent = `${sender.release[0].toUpperCase()}${sender.release.slice(1)}.`;
  showCounts(sender.counts);
  showHistory(sender);
  const decisions = sender.decision_log.toReversed();
  fillList(at("decision-log"), decisions.map((one) => listItem(make("span", "who", one.verdict), timeText(one.issued), one.words)), "None in memory.");
  await showPlot(address);
}

// ---- navigation

function shownAddress() {
  const match = location.hash.match(/^#\/sender\/(.+)$/);
  return match ? decodeURIComponent(match[1]) : "";
}

let timer = 0;
let latest = 0;

async function refresh() {
  clearTimeout(timer);
  const address = shownAddress();
  const mine = ++latest;
  try {
    if (document.visibilityState === "visible") await (address ? refreshSender(address) : refreshHome());
    if (mine === latest) document.documentElement.dataset.ready = address || "home";
  } catch (error) {
    at("pill").textContent = "no reply";
    at("pill").className = "pill bad";
  }
  if (mine === latest) timer = setTimeout(refresh, POLL_MS);
}

function navigate() {
  const address = shownAddress();
  delete document.documentElement.dataset.ready;
  plotted = "";
  at("home").hidden = Boolean(address);
  at("sender").hidden = !address;
  document.title = address ? `${address} – Tidegate` : "Tidegate";
  if (address) at("main").focus({ preventScroll: true });
  scrollTo(0, 0);
  refresh();
}

function moveFocus(by) {
  const links = [...at("decisions").querySelectorAll("a")];
  const now = links.indexOf(document.activeElement);
  links[Math.min(links.length - 1, Math.max(0, now < 0 ? 0 : now + by))]?.focus();
}

at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const address = at("address").value.trim();
  if (address) location.hash = `#/sender/${encodeURIComponent(address)}`;
  at("address").blur();
});
at("override").addEventListener("submit", (event) => {
  event.preventDefault();
  submitOverride(event.target).catch((error) => { at("override-result").className = "verdict throttled"; at("override-result").textContent = error.message; });
});
at("filter").addEventListener("input", () => {
  search = at("filter").value.trim();
  refresh();
});
at("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* storage is disabled */ }
});
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") typing ? event.target.blur() : (location.hash = "#/");
  else if (typing) return;
  else if (event.key === "/") { event.preventDefault(); at("address").focus(); at("address").select(); }
  else if (event.key === "j" && !shownAddress()) moveFocus(1);
  else if (event.key === "k" && !shownAddress()) moveFocus(-1);
});
addEventListener("hashchange", navigate);
document.addEventListener("visibilitychange", refresh);
try { const theme = localStorage.getItem("theme"); if (theme) document.documentElement.dataset.theme = theme; } catch { /* storage is disabled */ }
navigate();

// Asks the worker every two seconds while somebody looks, and shows what it says. Text is only ever set as text, never as markup.
"use strict";

const EVERY_MS = 2000;
const at = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const moment = (ms) => (Math.abs(Date.now() - ms) < 43200000 ? clock : day).format(ms);

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function amount(value) {
  return value === null || value === undefined ? "none" : value >= 100 ? whole.format(value) : short.format(value);
}

function told(list, nodes, nothing) {
  list.replaceChildren(...(nodes.length ? nodes : [make("li", "nothing", nothing)]));
}

async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const said = await response.json();
  if (!response.ok) throw new Error(said.error || response.statusText);
  return said;
}

// The address of a network that is one sender's, "" for a wider one.
function sole(network) {
  const [address, length] = network.split("/");
  return !length || length === (address.includes(":") ? "64" : "32") ? address : "";
}

function who(network) {
  const address = sole(network);
  if (!address) return make("span", "who", network);
  const link = make("a", "who", address.includes(":") && network.includes("/") ? network : address);
  link.href = `#/sender/${encodeURIComponent(address)}`;
  return link;
}

function entry(first, when, why, ...tags) {
  const item = make("li");
  const name = make("span");
  name.append(first);
  for (const tag of tags) if (tag) name.append(make("span", tag === "shadow" ? "tag shadow" : "tag", tag));
  item.append(name, make("span", "when", when), make("span", "why", why));
  return item;
}

// ---- the first page

function rateOf(pulse) {
  const last = pulse[pulse.length - 1];
  const before = pulse.findLast((sample) => last[0] - sample[0] >= 1500) || pulse[0];
  const seconds = Math.max((last[0] - before[0]) / 1000, 0.001);
  return pulse.length > 1 ? (last[1] - before[1]) / seconds : 0;
}

// The workers' rates one upon the other, the youngest samples together.
function spark(pulses) {
  const rows = pulses.map((pulse) => {
    const rates = pulse.slice(1).map((sample, i) => (sample[1] - pulse[i][1]) / Math.max((sample[0] - pulse[i][0]) / 1000, 0.001));
    return (rates.length > 1 ? rates.slice(0, -1) : rates).reverse(); // the youngest spans too little to tell
  });
  const rates = Array.from({ length: Math.max(...rows.map((row) => row.length)) }, (_, i) => sum(rows, (row) => row[i] ?? 0)).reverse();
  const most = Math.max(...rates, 1);
  const points = rates.map((rate, i) => `${((240 * i) / Math.max(rates.length - 1, 1)).toFixed(1)},${(42 - (38 * rate) / most).toFixed(1)}`);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", points.length > 1 ? `M0,44 L${points.join(" L")} L240,44` : "M0,44");
  at("spark").replaceChildren(path);
}

function tile(id, text, state) {
  at(id).textContent = text;
  at(id).parentElement.classList.toggle("warn", state === "warn");
  at(id).parentElement.classList.toggle("bad", state === "bad");
}

function sum(list, of) {
  return list.reduce((total, one) => total + of(one), 0);
}

function throttlesOf(pulse) {
  const last = pulse[pulse.length - 1];
  const before = pulse.find((sample) => sample[0] > last[0] - 60000) || pulse[0];
  return last[2] - before[2];
}

function showTiles(found, parts) {
  const partitions = parts.flatMap((part) => Object.values(part.status.partitions));
  const behind = Math.max(0, ...partitions.map((one) => one.lag_s));
  const messages = sum(partitions, (one) => one.established.messages);
  const deferred = sum(partitions, (one) => one.established.deferred);
  const used = messages ? deferred / messages / partitions[0].established.budget : 0;
  tile("rate", whole.format(sum(parts, (part) => rateOf(part.pulse))));
  tile("throttles", whole.format(sum(parts, (part) => throttlesOf(part.pulse))));
  const shadows = found.shadows ? ` + ${whole.format(found.shadows)} in shadow` : "";
  tile("live", whole.format(found.live) + shadows + (found.caught_up ? "" : "…"));
  tile("behind", behind < 1 ? "no" : `${whole.format(behind)} s`, behind > 60 ? "bad" : behind > 10 ? "warn" : "");
  tile("budget", percent.format(used), used > 1 ? "bad" : used > 0.8 ? "warn" : "");
  tile("keys", whole.format(sum(parts, (part) => part.status.keys)));
  spark(parts.map((part) => part.pulse));
}

function showDecisions(decisions) {
  const list = at("decisions");
  const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const nodes = decisions.map((one) => entry(who(one.network), `until ${moment(one.until)}`, one.words, one.reason, one.shadow && "shadow"));
  told(list, nodes, at("filter").value ? "None of those in force is like that." : "Nobody is throttled.");
  if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function showMovers(parts) {
  const movers = parts.flatMap((part) => part.movers).sort((a, b) => a.expected - a.messages - (b.expected - b.messages));
  const nodes = movers.slice(0, 15).map((one) => {
    const stage = one.active_days ? `its own most was ${amount(one.expected)}` : `new here, where newcomers send up to ${amount(one.expected)}`;
    return entry(who(one.address), `${amount(one.messages)} messages`, stage, one.until ? (one.shadow ? "shadow" : "throttled") : "");
  });
  told(at("movers"), nodes, "Everybody is within what they usually send.");
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
    percent.format(one.established.share / one.established.budget), one.decides ? one.threshold.toFixed(2) : "learns",
    `${short.format(one.checkpoint_age_s)} s`]]);
  const restoring = Object.entries(part.status.restoring).map(([number, one]) => [number, [`being restored: ${percent.format(one.share)}`, ...Array(7).fill("")]]);
  return [...rows, ...restoring].map(([number, cells]) => [Number(number), row([number, ...cells, part.worker])]);
}

function showEngine(found, parts) {
  const { edges, missing } = found;
  const rows = parts.flatMap(partitionRows).sort((a, b) => a[0] - b[0]);
  at("partitions").replaceChildren(...rows.map((one) => one[1]));
  at("engine").classList.toggle("alone", parts.length === 1);
  const silent = Object.entries(edges.silent).map(([name, seconds]) => `edge ${name} was last heard ${whole.format(seconds)} s ago`);
  const complaints = parts.flatMap((part) => part.complaints.map((said) => (part === found ? said : `worker ${part.worker}: ${said}`)));
  const late = parts.map((part) => part.status.since_start.decision_s.p99).filter((seconds) => seconds !== null);
  at("facts").textContent = [
    `worker ${found.worker}`, `shown: ${rows.length} of ${found.partitions} partitions, of ${parts.length} ${parts.length === 1 ? "worker" : "workers"}`,
    `configuration ${found.status.config.slice(0, 19)}`, ...(found.status.shadow ? [`in shadow, so that edges only tell what they would defer: ${found.status.shadow}`] : []),
    `${whole.format(sum(parts, (part) => part.status.events))} events counted in all`,
    `${edges.heard} edges heard`, ...silent,
    late.length ? `99 % of decisions within ${Math.max(...late)} s of the event` : "no decision since it started"].join(" · ");
  const count = complaints.length + silent.length;
  at("pill").textContent = count ? (count === 1 ? "one complaint" : `${count} complaints`) : missing.length ? "well, as far as shown" : "well";
  at("pill").className = `pill ${count ? "bad" : missing.length ? "warn" : "good"}`;
  at("complaints").hidden = !count;
  at("complaints").replaceChildren(...[...complaints, ...silent].map((said) => make("li", "", said)));
  at("missing").hidden = !missing.length;
  at("missing").replaceChildren(...missing.map((said) => make("li", "", said)));
}

function override(one) {
  const until = one.until ? `until ${moment(one.until)}` : "for good";
  const what = one.ended ? "ended" : `${one.action || one.kind || "exempt"} ${until}`;
  return entry(who(one.network), moment(one.at), [what, one.reason, one.by && `by ${one.by}`].filter(Boolean).join(" · "));
}

let wanted = "";

async function refreshHome() {
  const found = await get("/v1/overview");
  const parts = [found, ...found.others];
  showTiles(found, parts);
  showMovers(parts);
  showEngine(found, parts);
  showDecisions(wanted ? await get(`/v1/decisions?search=${encodeURIComponent(wanted)}`) : found.decisions);
  const overrides = await get("/v1/overrides");
  told(at("overrides"), overrides.overrides.map(override), "None: everybody is judged by what they send.");
  at("order").hidden = !overrides.orders;
  at("order-none").hidden = overrides.orders;
  told(at("override-history"), overrides.history.map(override), "Nothing was said so far.");
}

async function order(form) {
  const { token, ...asked } = Object.fromEntries(new FormData(form));
  at("order-said").className = "quiet";
  at("order-said").textContent = "Ordering…";
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  const response = await fetch("/v1/overrides", { method: "POST", headers, body: JSON.stringify(asked) });
  const said = await response.json();
  at("order-said").className = response.ok ? "verdict free" : "verdict held";
  at("order-said").textContent = said.error || said.changes.map((one) => `${one.kind} ${one.network}: ${one.text}`).join("; ");
  if (response.ok) for (const name of ["network", "until", "owner", "reason"]) form.elements[name].value = "";
  refresh();
}

// ---- a sender's page

let drawn = "";

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
  newcomer: "a newcomer, measured against what newcomers to this site do",
  probation: "on probation: few active days, measured against them and a floor",
  known: "known, measured against its own most on an active day",
};

function showPast({ past, partition, worker }) {
  const where = `partition ${partition}, worker ${worker}`;
  at("past").textContent = past ? [
    STAGES[past.stage], `${past.active_days} active days since ${moment(past.first_seen_ms)}`, `last seen ${moment(past.last_seen_ms)}`,
    `${whole.format(past.accepted)} messages accepted, ${whole.format(past.rejected)} refused`,
    `${short.format(past.typical_per_h)} in a usual busiest hour`, where].join(" · ") : `The state doesn't know this sender (${where}).`;
}

async function draw(address) {
  if (drawn === address) return;
  drawn = address;
  at("plot").removeAttribute("src");
  at("plot-said").textContent = "Drawing the last day…";
  try {
    const response = await fetch(`/v1/senders/${encodeURIComponent(address)}/plot.svg`);
    if (!response.ok) throw new Error((await response.json()).error);
    await response.arrayBuffer();
    if (asked() !== address) return;
    at("plot").src = `/v1/senders/${encodeURIComponent(address)}/plot.svg`;
    at("plot").alt = `what ${address} sent in the last day, what was expected, its limit, and when it was throttled`;
    at("plot-said").textContent = "Expectation and limit are those that hold now; tidegate plot replays them exactly.";
  } catch (error) {
    at("plot-said").textContent = error.message;
  }
}

async function refreshSender(address) {
  let found;
  try {
    found = await get(`/v1/senders/${encodeURIComponent(address)}`);
  } catch (error) {
    if (asked() !== address) return;
    at("network").textContent = address;
    at("sender-error").textContent = error.message;
    at("sender-error").hidden = false;
    at("known").hidden = true;
    at("verdict").textContent = at("release").textContent = "";
    return;
  }
  if (asked() !== address) return;
  at("sender-error").hidden = true;
  at("known").hidden = false;
  at("network").textContent = found.network;
  const rate = found.allowed ? `${amount(60 * found.allowed.rate_per_min)} messages an hour may pass, ${amount(found.allowed.burst)} at once` : "";
  at("verdict").className = `verdict ${found.throttled ? "held" : "free"}`;
  const until = `until ${moment(found.until)} (${found.reason || "by the state"}): ${rate}`;
  const passes = found.shadow ? `In shadow, so it passes. It would be throttled ${until}` : "Not throttled";
  at("verdict").textContent = found.throttled ? `Throttled ${until}` : passes;
  at("release").textContent = `${found.release[0].toUpperCase()}${found.release.slice(1)}.`;
  showCounts(found.counts);
  showPast(found);
  told(at("told"), found.told.toReversed().map((one) => entry(make("span", "who", one.verdict), moment(one.issued), one.words)), "None that is still known.");
  await draw(address);
}

// ---- one page or the other

function asked() {
  const match = location.hash.match(/^#\/sender\/(.+)$/);
  return match ? decodeURIComponent(match[1]) : "";
}

let timer = 0;
let latest = 0;

async function refresh() {
  clearTimeout(timer);
  const address = asked();
  const mine = ++latest;
  try {
    if (document.visibilityState === "visible") await (address ? refreshSender(address) : refreshHome());
    if (mine === latest) document.documentElement.dataset.ready = address || "home";
  } catch (error) {
    at("pill").textContent = "no answer";
    at("pill").className = "pill bad";
  }
  if (mine === latest) timer = setTimeout(refresh, EVERY_MS);
}

function turn() {
  const address = asked();
  delete document.documentElement.dataset.ready;
  drawn = "";
  at("home").hidden = Boolean(address);
  at("sender").hidden = !address;
  document.title = address ? `${address} – Tidegate` : "Tidegate";
  if (address) at("main").focus({ preventScroll: true });
  scrollTo(0, 0);
  refresh();
}

function step(by) {
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
at("order").addEventListener("submit", (event) => {
  event.preventDefault();
  order(event.target).catch((error) => { at("order-said").className = "verdict held"; at("order-said").textContent = error.message; });
});
at("filter").addEventListener("input", () => {
  wanted = at("filter").value.trim();
  refresh();
});
at("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* a browser that keeps nothing */ }
});
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") typing ? event.target.blur() : (location.hash = "#/");
  else if (typing) return;
  else if (event.key === "/") { event.preventDefault(); at("address").focus(); at("address").select(); }
  else if (event.key === "j" && !asked()) step(1);
  else if (event.key === "k" && !asked()) step(-1);
});
addEventListener("hashchange", turn);
document.addEventListener("visibilitychange", refresh);
try { const theme = localStorage.getItem("theme"); if (theme) document.documentElement.dataset.theme = theme; } catch { /* the same */ }
turn();

"use strict";
// The status page: reads server-sent events and shows them. Every text is set as text, never as markup; nothing is ever sent but GET.

const byId = (id) => document.getElementById(id);
const FLOW = [
  ["waiting", "waiting"], ["deferred", "deferred"], ["check", "check"], ["gather", "gather"], ["submit", "submit"],
  ["answer", "at the Core"], ["answered", "to sign"], ["signed", "to include"], ["included", "to finalize"],
];
const STATES = ["pending", "answered", "signed", "included", "finalized", "done", "rejected", "expired", "quarantined", "aborted"];
const BAD_STATES = new Set(["rejected", "expired", "quarantined"]);
const SPAN_SECONDS = 5;
const RETRY_MILLISECONDS = 2000;

let token = "";
let lastEvent = 0;
let shownChange = "";

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    made.setAttribute(key, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return made;
}

function drawing(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const quiet = (text) => element("p", {class: "quiet"}, text);

// columns: [title, (row) => text or node, class]
function table(rows, columns, nothing) {
  if (!rows.length) {
    return quiet(nothing);
  }
  const head = element("tr", {}, ...columns.map(([title, , kind]) => element("th", {class: kind || "", scope: "col"}, title)));
  const body = rows.map((row) => element("tr", {}, ...columns.map(([, value, kind]) => element("td", {class: kind || ""}, value(row)))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

// ---- words for values

const UNKNOWN = "–";
const whole = (value) => (value === null || value === undefined ? UNKNOWN : value.toLocaleString("en"));

function seconds(value) {
  if (value === null || value === undefined) {
    return UNKNOWN;
  }
  if (value < 0.0995) {
    return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  }
  if (value < 60) {
    return `${value.toFixed(value < 9.95 ? 2 : 1)} s`;
  }
  if (value < 3600) {
    return value < 600 ? `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s` : `${Math.floor(value / 60)} min`;
  }
  const hours = Math.floor(value / 3600);
  return hours < 48 ? `${hours} h ${Math.floor((value % 3600) / 60)} min` : `${Math.floor(hours / 24)} days`;
}

const percent = (part) => (part < 0.01 ? "< 1 %" : `${Math.round(100 * part)} %`);
const kindWords = (kind) => kind.replaceAll("_", " ");
const bytes = (value) => (value === null || value === undefined ? UNKNOWN : `${(value / 2 ** 30).toFixed(1)} GiB`);
const eth = (value) => (value === null ? UNKNOWN : (value / 1e18).toLocaleString("en", {maximumSignificantDigits: 6, useGrouping: false}));
const gwei = (value) => (value === null ? UNKNOWN : (value / 1e9).toLocaleString("en", {maximumSignificantDigits: 4}));

function idWords(request) {
  if (!request.id) {
    return `row ${request.row}`;
  }
  const digits = request.id.slice(2);
  return `0x${digits.slice(0, 2)}…${digits.slice(-8).replace(/^0+(?=.{4})/, "")}`;
}

// the parts that stand by their names, as rows
const named = (parts) => Object.entries(parts).map(([name, one]) => ({name, ...one}));
const marked = (text, kind) => element("span", {class: kind}, text);

// ---- parts of the page

function showAlerts(alerts) {
  if (!alerts.length) {
    return [element("p", {class: "calm"}, "No alert is raised.")];
  }
  return alerts.map((alert) => element(
    "div", {class: `alert ${alert.severity}`},
    element("strong", {}, alert.dependency), marked(`${alert.severity}, ${alert.cause}`, "soft"),
    element("p", {}, alert.text + (alert.count > 1 ? ` (${alert.count} requests)` : "")),
    element("p", {}, element("b", {}, "What to do: "), alert.remedy || "see the text"),
  ));
}

function showFlow(flow) {
  return FLOW.map(([name, title]) => {
    const count = flow[name] || 0;
    const kind = !count ? "" : name === "deferred" ? "some held" : "some";
    return element("li", {class: kind}, element("b", {}, whole(count)), element("span", {}, title));
  });
}

function showThroughput(throughput) {
  const {recorded, included} = throughput;
  const count = recorded.length;
  const most = Math.max(1, ...recorded, ...included);
  const bars = (series, kind) => series.map((value, index) => drawing("rect", {
    class: kind, x: index * 10 + 1, width: 8, y: 60 - (60 * value) / most, height: (60 * value) / most,
  }));
  const label = `Requests in the last ${(count * SPAN_SECONDS) / 60} minutes`;
  const svg = drawing(
    "svg", {class: "spark", viewBox: `0 0 ${count * 10} 60`, preserveAspectRatio: "none", role: "img", "aria-label": label},
    drawing("rect", {class: "ground", x: 0, y: 59.5, width: count * 10, height: 0.5}),
    ...bars(recorded, "back"), ...bars(included, ""),
  );
  const lately = (series) => (series.slice(-12).reduce((sum, value) => sum + value, 0) / (12 * SPAN_SECONDS)).toFixed(1);
  const legend = element(
    "div", {class: "legend"},
    element("span", {}, element("span", {class: "key back"}), "recorded ", element("b", {}, lately(recorded)), "/s"),
    element("span", {}, element("span", {class: "key"}), "included ", element("b", {}, lately(included)), "/s"),
    element("span", {}, `last ${(count * SPAN_SECONDS) / 60} minutes; rates of the last one`),
  );
  return [svg, legend];
}

function showLatency(latency) {
  return [table(Object.entries(latency), [
    ["stage", ([name]) => name],
    ["p50", ([, one]) => seconds(one.p50), "number"],
    ["p95", ([, one]) => seconds(one.p95), "number"],
    ["p99", ([, one]) => seconds(one.p99), "number"],
    ["count", ([, one]) => whole(one.count), "number soft far"],
  ], "Nothing was measured in this time.")];
}

function showChains(status) {
  const lag = (chain) => {
    const lags = status.contracts.filter((one) => one.chain === chain.name).map((one) => one.lag);
    return lags.length ? whole(Math.max(...lags)) : UNKNOWN;
  };
  return [table(named(status.chains), [
    ["chain", (chain) => chain.name, "name"],
    ["head", (chain) => whole(chain.head), "number"],
    ["age", (chain) => seconds(chain.head_age), "number"],
    ["lag", lag, "number"],
    ["finalized", (chain) => whole(chain.finalized), "number far"],
    ["finality", (chain) => seconds(chain.finalized_age), "number"],
    ["reconnects", (chain) => whole(chain.reconnects), "number far"],
  ], "No chain has answered yet.")];
}

function showTransactions(transactions) {
  return [table(named(transactions), [
    ["chain", (one) => one.name],
    ["next nonce", (one) => whole(one.next_nonce), "number"],
    ["in flight", (one) => whole(one.in_flight), "number far"],
    ["to sign", (one) => whole(one.waiting), "number far"],
    ["ETH", (one) => eth(one.balance), "number"],
    ["replies left", (one) => (one.replies_left > 1e9 ? "> 10⁹" : whole(one.replies_left)), "number"],
    ["gwei", (one) => gwei(one.fee), "number far"],
  ], "No transaction manager runs yet.")];
}

function showCores(cores) {
  const standing = (core) => {
    if (core.serving === null) {
      return marked("has not answered yet", "warn");
    }
    return core.serving ? marked("serves", "good") : marked(core.text || "does not serve", "bad break");
  };
  return [table(named(cores), [["endpoint", (core) => core.name], ["state", standing]], "No Core is known yet.")];
}

function showBuckets(buckets) {
  const failed = (bucket) => (bucket.failed ? marked(`${whole(bucket.failed)} (${percent(bucket.failed / bucket.asked)})`, "warn") : "0");
  return [table(named(buckets), [
    ["bucket", (bucket) => bucket.name, "break"],
    ["asked", (bucket) => whole(bucket.asked), "number"],
    ["failed", failed, "number"],
  ], "No bucket was asked yet.")];
}

function showKinds(status) {
  const {requests = {}, oldest = {}} = status.journal;
  const rows = Object.entries(requests);
  const used = STATES.filter((state) => rows.some(([, states]) => states[state]));
  const workers = ([kind]) => (status.workers[kind] ? `${status.workers[kind].busy} of ${status.workers[kind].places}` : UNKNOWN);
  return [table(rows, [
    ["kind", ([kind]) => kindWords(kind)],
    ...used.map((state) => [
      state,
      ([, states]) => (states[state] && BAD_STATES.has(state) ? marked(whole(states[state]), "bad") : whole(states[state] || 0)),
      "number",
    ]),
    ["oldest open", ([kind]) => seconds(oldest[kind] || null), "number"],
    ["workers busy", workers, "number"],
  ], "The journal holds no request.")];
}

function showRequests(status, requests, nothing) {
  const stage = (one) => marked(one.stage, BAD_STATES.has(one.stage) ? "bad" : one.stage === "deferred" ? "warn" : ["included", "finalized", "done"].includes(one.stage) ? "good" : "");
  const link = (one) => element("a", {href: `#request=${one.row}`, class: "mono id", title: one.id || ""}, idWords(one));
  return [table(requests, [
    ["request", link],
    ["kind", (one) => kindWords(one.kind)],
    ["stage", stage],
    ["age", (one) => seconds(Math.max(0, status.at - one.begun)), "number"],
    ["last news", (one) => `${seconds(Math.max(0, status.at - one.changed))} ago`, "number soft far"],
    ...(requests.some((one) => one.detail) ? [["waits for", (one) => one.detail, "break soft wait"]] : []),
  ], nothing)];
}

function showTimeline(request) {
  const detail = (step) => {
    const stages = Object.entries(step.stages).map(([name, length]) => `${name} ${seconds(length)}`).join(", ");
    return [stages, step.detail].filter((part) => part).join("; ");
  };
  const steps = request.timeline.map((step) => element(
    "li", {},
    element("span", {class: "when"}, `+${seconds(Math.max(0, step.at - request.recorded_at))}`),
    element("span", {class: BAD_STATES.has(step.what) ? "bad" : step.what.startsWith("waits") ? "warn" : ""}, step.what),
    element("span", {class: "detail"}, detail(step)),
  ));
  const begun = new Date(request.recorded_at * 1000).toISOString().replace("T", " ").slice(0, 19);
  const now = element("p", {class: "quiet"}, `Recorded ${begun} UTC, now: ${request.state}. Next: ${request.next}.`);
  return [
    element("div", {class: "head"}, element("h2", {}, `Timeline of one ${kindWords(request.kind)}`),
      element("span", {class: "mono break"}, request.id || `row ${request.row}`), element("a", {href: "#"}, "close")),
    now, element("ol", {class: "steps"}, ...steps),
  ];
}

const put = (id, nodes) => byId(id).replaceChildren(...nodes);

function show(status) {
  lastEvent = Date.now();
  problem("");
  byId("service").textContent = status.service === "kmsconn" ? status.version : `${status.service} ${status.version}`;
  document.title = `${status.alerts.length ? `(${status.alerts.length}) ` : ""}kmsconn ${status.service}: ${status.state}`;
  badge(status.state);
  put("alerts", showAlerts(status.alerts));
  put("flow", showFlow(status.flow));
  put("throughput", showThroughput(status.throughput));
  put("latency", showLatency(status.latency));
  put("chains", showChains(status));
  put("transactions", showTransactions(status.transactions));
  put("cores", showCores(status.cores));
  put("buckets", showBuckets(status.buckets));
  put("kinds", showKinds(status));
  put("oldest", showRequests(status, status.oldest, "Every request that this process knows has its reply."));
  put("newest", showRequests(status, status.newest, "No request since the start of this process."));
  const journal = status.journal;
  byId("footer").textContent = `Journal: ${bytes(journal.free)} free on its disk, ${whole(journal.gaps)} requests missing, ${whole(journal.off_chain)} off chain. `
    + overHttp(status.http)
    + "Read-only; the same in a terminal: kmsconn top.";
  const chosen = [...status.oldest, ...status.newest].find((one) => String(one.row) === chosenRow());
  refreshTimeline(chosen ? `${chosen.row} ${chosen.changed}` : "").catch(() => {});
}

function overHttp(http) {
  return http ? `Over HTTP: ${whole(http.waiting)} of ${whole(http.places)} clients wait, ${whole(http.connections)} connections. ` : "";
}

function badge(state) {
  byId("state").textContent = state;
  byId("state").className = `badge ${state}`;
}

function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

// ---- one request

const chosenRow = () => (/^#request=([0-9]{1,19}|0x[0-9a-f]{64})$/.exec(location.hash) || ["", ""])[1];

async function refreshTimeline(change) {
  const row = chosenRow();
  const place = byId("timeline");
  if (!row) {
    place.hidden = true;
    shownChange = "";
    return;
  }
  if (change && change === shownChange) {
    return;
  }
  const answer = await fetch(`/status/requests/${row}`, {headers: headers(), cache: "no-store"});
  shownChange = change;
  const close = element("a", {href: "#"}, "close");
  place.replaceChildren(...(answer.ok ? showTimeline(await answer.json())
    : [element("div", {class: "head"}, element("p", {class: "quiet"}, `There is no request ${row} in the journal.`), close)]));
  place.hidden = false;
}

// ---- the stream

const headers = () => (token ? {authorization: `Bearer ${token}`} : {});

function takeToken() {
  const given = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (given) {
    token = decodeURIComponent(given[1]);
    sessionStorage.setItem("kmsconn token", token);
    history.replaceState(null, "", location.pathname);
  } else {
    token = sessionStorage.getItem("kmsconn token") || "";
  }
}

const REFUSALS = {
  401: "This page needs a token: open it as /status#token=… with the content of status_page_token_file.",
  403: "Open this page by a loopback address, such as http://127.0.0.1.",
  503: "The page has as many viewers as it takes. It tries again.",
};

async function stream() {
  const answer = await fetch("/status/events", {headers: headers(), cache: "no-store"});
  if (!answer.ok) {
    badge("lost");
    problem(REFUSALS[answer.status] || `The connector answers with HTTP ${answer.status}.`);
    return;
  }
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let taken = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) {
      return;
    }
    taken += decoder.decode(value, {stream: true});
    const events = taken.split("\n\n");
    taken = events.pop();
    if (events.length) {
      show(JSON.parse(events.at(-1).replace(/^data: /, "")));
    }
  }
}

async function follow() {
  for (;;) {
    try {
      await stream();
    } catch (error) {
      if (!(error instanceof TypeError)) { // a connection that broke is a TypeError; anything else is a fault of this page
        console.error(error);
      }
    }
    if (lastEvent) {
      badge("lost");
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
  }
}

function tick() {
  const age = Math.round((Date.now() - lastEvent) / 1000);
  byId("connection").textContent = !lastEvent ? "" : age < 3 ? "live" : `last news ${seconds(age)} ago`;
}

takeToken();
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) {
    takeToken();
  }
  refreshTimeline("").then(() => {
    if (chosenRow()) {
      byId("timeline").scrollIntoView({behavior: "smooth", block: "nearest"});
    }
  }).catch(() => {});
});
setInterval(tick, 1000);
follow();

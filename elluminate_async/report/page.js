"use strict";
// The grid of rows × criteria. Every text of a model or of data goes in by textContent.
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);

  // make("td", {class: "n", text: "3"}, child, …): an element.
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") element.textContent = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const grouped = (value, digits = 0) =>
    value.toLocaleString("en-US", {minimumFractionDigits: digits, maximumFractionDigits: digits});
  const told = (value, write) => (value === null ? "unknown" : write(value));
  const seconds = (value) => told(value, (v) => `${grouped(v, 2)} s`);
  const count = (value) => told(value, (v) => grouped(v));
  const cost = (value) => told(value, (v) => (Math.abs(v) >= 100 ? grouped(v, 2) : String(Number(v.toPrecision(3)))));
  const plural = (n, one, many) => `${grouped(n)} ${n === 1 ? one : many}`;

  // ---- theme -------------------------------------------------------------------------------
  const themes = ["automatic", "light", "dark"];
  let theme = 0;
  $("theme").addEventListener("click", () => {
    theme = (theme + 1) % themes.length;
    if (theme) root.dataset.theme = themes[theme];
    else delete root.dataset.theme;
    $("theme").textContent = `Theme: ${themes[theme]}`;
  });

  // ---- data --------------------------------------------------------------------------------
  const data = JSON.parse($("index").textContent);
  const {configs, criteria, rows, lines, partRows, changes} = data;
  const partElements = document.querySelectorAll("script.part");
  const parts = new Array(partElements.length);
  const part = (at) => (parts[at] ??= JSON.parse(partElements[at].textContent));
  const detailsOf = (row) => part(Math.floor(row / partRows))[row % partRows];

  const ROW = 0, CONFIG = 1, SAID = 2, IS_ERROR = 3, SECONDS = 4, TOKENS = 5, COST = 6, CELLS = 7;
  // How often YES, NO and neither: criterion c of line i stands at i * width + 3 * c.
  const width = 3 * criteria.length;
  const cells = new Int32Array(lines.length * width);
  const noes = new Int32Array(lines.length);
  const gaps = new Int32Array(lines.length);
  lines.forEach((line, i) => {
    cells.set(line[CELLS], i * width);
    for (let at = i * width; at < (i + 1) * width; at += 3) {
      noes[i] += cells[at + 1];
      gaps[i] += cells[at + 2];
    }
    if (!width) gaps[i] = 1;
  });
  const stateOf = (i) => (noes[i] ? "failed" : gaps[i] || lines[i][IS_ERROR] ? "missing" : "passed");
  const states = lines.map((_, i) => stateOf(i));

  // What a search looks through: made when nothing else is to do, at the latest when it is asked for.
  const haystacks = new Array(lines.length);
  let hayRow = 0, hayLine = 0;
  const stackRow = () => {
    const [input, records] = detailsOf(hayRow);
    const head = input.map(([name, text]) => `${name}\n${text}`).join("\n");
    for (; hayLine < lines.length && lines[hayLine][ROW] === hayRow; hayLine++) {
      const words = [head, configs[lines[hayLine][CONFIG]]];
      for (const [config, , response, error, ratings, ratingError] of records) {
        if (config !== lines[hayLine][CONFIG]) continue;
        words.push(response ?? "", ...(error ?? []), ...(ratingError ?? []));
        for (const rating of ratings ?? []) words.push(rating[2]);
      }
      haystacks[hayLine] = words.join("\n").toLowerCase();
    }
    hayRow++;
  };
  const stackAll = () => { while (hayRow < rows.length) stackRow(); };
  const later = window.requestIdleCallback ?? ((work) => setTimeout(() => work({timeRemaining: () => 8}), 16));
  const stackSome = (deadline) => {
    while (hayRow < rows.length && deadline.timeRemaining() > 2) stackRow();
    if (hayRow < rows.length) later(stackSome);
    else root.dataset.searchable = "";
  };

  // ---- what is shown -----------------------------------------------------------------------
  const view = {text: "", state: "all", config: -1, criterion: -1, rows: null, sort: "worst", down: false, size: criteria.length > 30 ? 25 : 50, page: 0};
  let order = [];
  const isShown = (i) => {
    const line = lines[i];
    if (view.config >= 0 && line[CONFIG] !== view.config) return false;
    if (view.state !== "all" && states[i] !== view.state) return false;
    if (view.criterion >= 0 && !cells[i * width + 3 * view.criterion + 1]) return false;
    if (view.rows && !view.rows.has(rows[line[ROW]][0])) return false;
    return !view.text || haystacks[i].includes(view.text);
  };
  // The smallest key stands first, and what is not known last, whichever way is sorted. The order
  // is stable: lines of the same key stand by row and configuration.
  const keyOf = () => {
    const turn = view.down ? -1 : 1;
    if (view.sort === "worst") return (i) => -turn * (noes[i] * 1e6 + Math.min(gaps[i], 1e6 - 1));
    if (view.sort === "row") return (i) => turn * lines[i][ROW];
    if (view.sort === "config") return (i) => turn * lines[i][CONFIG];
    if (view.sort.startsWith("criterion ")) {
      const at = 3 * Number(view.sort.slice(10));
      return (i) => {
        const yes = cells[i * width + at], no = cells[i * width + at + 1];
        return yes + no ? (-turn * no) / (yes + no) : Infinity;
      };
    }
    const at = {seconds: SECONDS, tokens: TOKENS, cost: COST}[view.sort];
    return (i) => (lines[i][at] === null ? Infinity : turn * lines[i][at]);
  };
  const keys = new Float64Array(lines.length);
  const choose = () => {
    if (view.text) stackAll();
    order = [];
    for (let i = 0; i < lines.length; i++) if (isShown(i)) order.push(i);
    const key = keyOf();
    for (const i of order) keys[i] = key(i);
    order.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
    view.page = 0;
    draw();
    const found = {failed: 0, missing: 0, passed: 0};
    for (const i of order) found[states[i]]++;
    const each = Object.entries(found).map(([state, n]) => `${grouped(n)} ${WORDS[state]}`);
    $("count").textContent = `${grouped(order.length)} of ${plural(lines.length, "line", "lines")}: ${each.join(", ")}`;
  };

  // ---- the grid ----------------------------------------------------------------------------
  const WORDS = {failed: "failed", missing: "not measured", passed: "passed"};
  const SIGNS = {failed: "✗", missing: "–", passed: "✓"};
  const CLASSES = {failed: "no", missing: "missing", passed: "yes"};

  const cellOf = (yes, no, gap) => {
    const n = yes + no;
    const more = gap && n ? `, ${gap} not measured` : "";
    if (!n) return make("td", {class: "cell missing", text: "– not measured"});
    const kind = no ? (yes ? "mixed" : "no") : "yes";
    const word = n === 1 ? (no ? "NO" : "YES") : `${yes}/${n} YES`;
    return make("td", {class: `cell ${kind}`, title: `${yes} YES, ${no} NO${more}`,
      text: `${{yes: "✓", no: "✗", mixed: "◐"}[kind]} ${word}${gap ? ` –${gap}` : ""}`});
  };

  const rateIn = (criterion) => {
    let no = 0, n = 0;
    for (const i of order) {
      const at = i * width + 3 * criterion;
      no += cells[at + 1];
      n += cells[at] + cells[at + 1];
    }
    return n ? `${grouped(no)} NO of ${grouped(n)}` : "not measured";
  };

  const columns = [
    {key: "row", label: "Row", class: "row"},
    {key: "worst", label: "Result", class: "state"},
    ...(configs.length > 1 ? [{key: "config", label: "Configuration", class: "config"}] : []),
    {key: null, label: "Input", class: "wide"},
    ...criteria.map((label, c) => ({key: `criterion ${c}`, label, class: "criterion", criterion: c})),
    {key: null, label: "Response", class: "wide"},
    {key: "seconds", label: "Latency", class: "n"},
    {key: "tokens", label: "Tokens", class: "n"},
    {key: "cost", label: "Cost", class: "n"},
  ];

  const headOf = (column) => {
    const sorted = column.key !== null && view.sort === column.key;
    const sign = sorted ? (view.down ? " ▼" : " ▲") : "";
    const label = column.key === null
      ? make("span", {text: column.label})
      : make("button", {type: "button", class: "sort", title: column.label, "data-sort": column.key},
        make("bdi", {text: column.label.length > 60 ? `${column.label.slice(0, 60)}…` : column.label}), make("span", {"aria-hidden": "true", text: sign}));
    const below = column.criterion === undefined ? null : make("span", {class: "small", text: rateIn(column.criterion)});
    return make("th", {scope: "col", class: column.class, "aria-sort": sorted ? (view.down ? "descending" : "ascending") : null}, label, below);
  };

  const lineOf = (i) => {
    const line = lines[i], row = rows[line[ROW]], state = states[i];
    const toggle = make("button", {type: "button", class: "open", "aria-expanded": "false", "data-line": i}, make("span", {"aria-hidden": "true", class: "arrow", text: "▸"}), ` ${row[0]}`, make("span", {class: "hidden", text: ` details, ${WORDS[state]}`}));
    return make("tr", {class: `line ${CLASSES[state]}`},
      make("th", {scope: "row"}, toggle),
      make("td", {class: "state"}, make("span", {class: `tag ${CLASSES[state]}`, text: `${SIGNS[state]} ${WORDS[state]}`})),
      configs.length > 1 ? make("td", {class: "config", dir: "auto"}, make("div", {class: "cut", text: configs[line[CONFIG]]})) : null,
      make("td", {class: "wide", dir: "auto"}, make("div", {class: "cut", text: row[1]})),
      ...criteria.map((_, c) => cellOf(...cells.subarray(i * width + 3 * c, i * width + 3 * c + 3))),
      make("td", {class: line[IS_ERROR] ? "wide error" : "wide", dir: "auto"}, make("div", {class: "cut", text: line[IS_ERROR] ? `! ${line[SAID]}` : line[SAID]})),
      make("td", {class: "n", text: seconds(line[SECONDS])}),
      make("td", {class: "n", text: count(line[TOKENS])}),
      make("td", {class: "n", text: cost(line[COST])}));
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(order.length / view.size));
    view.page = Math.min(view.page, pages - 1);
    const from = view.page * view.size;
    $("head").replaceChildren(make("tr", {}, ...columns.map(headOf)));
    const shown = order.slice(from, from + view.size).map(lineOf);
    $("lines").replaceChildren(...(shown.length ? shown : [make("tr", {}, make("td", {colspan: columns.length, class: "empty", text: lines.length ? "No line fits the search and the filters." : "There are no rows."}))]));
    for (const pager of document.querySelectorAll(".pager")) {
      pager.querySelector(".at").textContent = `Page ${grouped(view.page + 1)} of ${grouped(pages)}`;
      pager.querySelector(".back").disabled = view.page === 0;
      pager.querySelector(".next").disabled = view.page >= pages - 1;
    }
  };

  // ---- the details of a line ---------------------------------------------------------------
  const block = (title, ...content) => make("div", {class: "block"}, make("h3", {text: title}), ...content);
  // Laying out a word of 20,000 letters takes seconds: it gets places to break, which no copy has.
  const longText = (tag, attributes, text) => {
    const element = make(tag, {dir: "auto", tabindex: text.length > 600 ? "0" : null, ...attributes});
    let from = 0;
    for (const {0: word, index} of text.matchAll(/\S{200}(?=\S)/gu)) {
      const to = index + word.length;
      element.append(text.slice(from, to), make("wbr"));
      from = to;
    }
    element.append(text.slice(from));
    return element;
  };
  const textBlock = (text) => longText("pre", {}, text);
  const errorBlock = (title, [code, text, step, attempts]) =>
    block(title, make("p", {class: "error"}, make("strong", {text: `! ${code}`}),
      ` ${step ? `in ${step}` : ""}${attempts === null ? "" : `, after ${plural(attempts, "attempt", "attempts")}`}`), textBlock(text));

  const ratingsBlock = (ratings) => make("table", {class: "ratings"},
    make("thead", {}, make("tr", {}, ...["Criterion", "Rating", "Reasoning"].map((text) => make("th", {scope: "col", text})))),
    make("tbody", {}, ...ratings.map(([criterion, rating, reasoning]) => make("tr", {class: rating === "NO" ? "no" : ""},
      make("th", {scope: "row"}, make("bdi", {text: criteria[criterion]})),
      make("td", {}, make("span", {class: `tag ${{YES: "yes", NO: "no"}[rating] ?? "missing"}`, text: {YES: "✓ YES", NO: "✗ NO"}[rating] ?? `– ${rating}, not measured`})),
      make("td", {}, longText("div", {class: "reasoning"}, reasoning || "(no reasoning)"))))));

  const recordBlock = (record, isSeveral) => {
    const [config, epoch, response, error, ratings, ratingError, position, id, tokensIn, tokensOut, took, price] = record;
    const facts = [`latency ${seconds(took)}`, `input tokens ${count(tokensIn)}`, `output tokens ${count(tokensOut)}`, `cost ${cost(price)}`];
    if (position !== null) facts.push(`record ${position}`);
    if (id !== null) facts.push(`response id ${id}`);
    return make("article", {class: "record"},
      make("h3", {class: "who"}, make("bdi", {text: configs[config]}), isSeveral ? `, epoch ${epoch}` : ""),
      make("p", {class: "small facts", text: facts.join(" · ")}),
      error ? errorBlock("No response", error) : null,
      response === null ? null : block("Response", textBlock(response)),
      ratings && ratings.length ? block("Ratings", ratingsBlock(ratings)) : null,
      ratingError && !error ? errorBlock(ratings ? "Partly rated" : "Not rated", ratingError) : null,
      !ratings && !ratingError && !error ? make("p", {class: "missing", text: "– not rated" }) : null);
  };

  const detailsRow = (i, id) => {
    const line = lines[i];
    const [input, records] = detailsOf(line[ROW]);
    const own = records.filter((record) => record[0] === line[CONFIG]);
    const others = records.filter((record) => record[0] !== line[CONFIG]);
    const several = (list) => new Set(list.map((record) => record[1])).size > 1;
    const inputs = make("table", {class: "inputs"}, make("tbody", {}, ...input.map(([name, text]) =>
      make("tr", {}, make("th", {scope: "row"}, make("bdi", {text: name})), make("td", {}, textBlock(text))))));
    return make("tr", {class: "details", id}, make("td", {colspan: columns.length},
      make("div", {class: "inside"},
        make("div", {}, block("Input", input.length ? inputs : make("p", {text: "(empty)"}))),
        make("div", {}, ...own.map((record) => recordBlock(record, several(own))),
          others.length ? make("details", {}, make("summary", {text: `The same row under ${plural(new Set(others.map((r) => r[0])).size, "other configuration", "other configurations")}`}),
            ...others.map((record) => recordBlock(record, several(others)))) : null))));
  };

  const toggle = (button) => {
    const open = button.getAttribute("aria-expanded") === "true";
    const line = button.closest("tr");
    const id = `details-${button.dataset.line}`;
    if (open) line.nextElementSibling.remove();
    else line.after(detailsRow(Number(button.dataset.line), id));
    button.setAttribute("aria-expanded", String(!open));
    if (open) button.removeAttribute("aria-controls");
    else button.setAttribute("aria-controls", id);
    button.querySelector(".arrow").textContent = open ? "▸" : "▾";
  };

  // ---- controls ----------------------------------------------------------------------------
  const select = (id, label, options, change) => make("label", {for: id, text: `${label} `},
    make("select", {id, onchange: (event) => { change(event.target.value); choose(); }},
      ...options.map(([value, text]) => make("option", {value, text: text.length > 70 ? `${text.slice(0, 70)}…` : text}))));
  const pager = () => make("div", {class: "pager"},
    make("button", {type: "button", class: "back", text: "‹ Back", onclick: () => { view.page--; draw(); }}),
    make("span", {class: "at"}),
    make("button", {type: "button", class: "next", text: "Next ›", onclick: () => { view.page++; draw(); }}));

  const build = () => {
    const search = make("input", {type: "search", id: "search", placeholder: "any text of a row", autocomplete: "off", spellcheck: "false"});
    let waiting = 0;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { view.text = search.value.trim().toLowerCase(); choose(); }, 60);
    });
    const numbered = (names) => names.map((name, i) => [String(i), name]);
    const controls = make("div", {class: "controls", role: "search", "aria-label": "Rows"},
      make("label", {for: "search", text: "Search "}, search),
      select("state", "Result", [["all", "all"], ["failed", "✗ failed"], ["missing", "– not measured"], ["passed", "✓ passed"]], (value) => { view.state = value; }),
      configs.length > 1 ? select("config", "Configuration", [["-1", "all"], ...numbered(configs)], (value) => { view.config = Number(value); }) : null,
      criteria.length > 1 ? select("criterion", "NO at", [["-1", "(not filtered)"], ...numbered(criteria)], (value) => { view.criterion = Number(value); }) : null,
      changes.length ? select("change", "Change", [["", "all"], ...changes.flatMap((_, i) => ["regressed", "improved"].map((kind) => [`${i} ${kind}`, changes.length > 1 ? `${i + 1}: ${kind}` : kind]))], (value) => {
        const [at, kind] = value.split(" ");
        view.rows = value ? new Set(changes[Number(at)][kind]) : null;
      }) : null,
      select("size", "Lines", [...new Set([view.size, 25, 50, 100, 250])].map((size) => [size, String(size)]), (value) => { view.size = Number(value); }));
    const table = make("table", {class: "grid"},
      make("caption", {class: "hidden", text: "Rows by criteria. Enter opens a row, the arrow keys go from row to row, the buttons of the columns sort."}),
      // Widths that are set, not found from the texts, make a page of lines quick to lay out.
      make("colgroup", {}, ...columns.map((column) => make("col", {class: column.class}))),
      make("thead", {id: "head"}), make("tbody", {id: "lines"}));
    $("grid").append(controls, make("p", {id: "count", role: "status", "aria-live": "polite"}), pager(),
      make("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows by criteria"}, table), pager());

    $("head").addEventListener("click", (event) => {
      const key = event.target.closest("[data-sort]")?.dataset.sort;
      if (key === undefined) return;
      view.down = view.sort === key ? !view.down : ["seconds", "tokens", "cost"].includes(key);
      view.sort = key;
      choose();
      $("head").querySelector(`[data-sort="${key}"]`).focus();
    });
    $("lines").addEventListener("click", (event) => {
      const line = event.target.closest("tr.line");
      if (line && !window.getSelection().toString()) toggle(line.querySelector(".open"));
    });
    $("lines").addEventListener("keydown", (event) => {
      const step = {ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity}[event.key];
      const button = event.target.closest(".open");
      if (button && event.key === "Escape" && button.getAttribute("aria-expanded") === "true") toggle(button);
      if (!button || step === undefined) return;
      const all = [...$("lines").querySelectorAll(".open")];
      const to = Math.max(0, Math.min(all.length - 1, all.indexOf(button) + step));
      all[to].focus();
      event.preventDefault();
    });
    for (const button of document.querySelectorAll("[data-change]")) {
      button.addEventListener("click", () => {
        $("change").value = button.dataset.change;
        $("change").dispatchEvent(new Event("change"));
        $("grid-title").focus();
        $("grid-title").scrollIntoView();
      });
    }
    for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
    root.classList.add("scripted");
  };

  build();
  choose();
  root.dataset.ready = "";
  later(stackSome);
})();

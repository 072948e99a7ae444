// Keeps an open page up to date, and folds the graph of a call. Every page works without it.
"use strict";

(() => {
  const rowHeight = 24; // of the drawing
  const retryAfter = 3000; // milliseconds
  const rows = document.querySelector("[data-live]");
  const state = document.getElementById("state");
  const folded = new Set();
  let order = rows === null ? [] : [...rows.children].map((row) => row.id);
  let pending = {}; // parts by id
  let pressed = false;

  // Do not replace a part while one of its buttons is pressed or has the focus: the click would be lost.
  function apply() {
    if (pressed) return;
    const later = {};
    for (const [id, html] of Object.entries(pending)) {
      const old = document.getElementById(id);
      if (old === null && order.includes(id)) rows.insertAdjacentHTML("beforeend", html);
      else if (old?.contains(document.activeElement)) later[id] = html;
      else if (old !== null) old.outerHTML = html;
    }
    pending = later;
    const wanted = new Set(order);
    for (const row of [...(rows?.children ?? [])]) if (!wanted.has(row.id)) row.remove();
    order.forEach((id, place) => {
      const row = document.getElementById(id);
      if (row !== rows.children[place]) rows.insertBefore(row, rows.children[place]);
    });
    draw();
  }

  function draw() {
    for (const svg of document.querySelectorAll("#graph svg")) {
      const all = [...svg.querySelectorAll("g.row")];
      let hiddenBelow = Infinity;
      let shown = 0;
      all.forEach((row, number) => {
        const level = Number(row.dataset.level);
        const hidden = level > hiddenBelow;
        if (hidden) {
          row.setAttribute("display", "none");
          return;
        }
        row.removeAttribute("display");
        row.setAttribute("transform", `translate(0 ${rowHeight * shown})`);
        shown += 1;
        const isFolded = folded.has(row.dataset.call);
        hiddenBelow = isFolded ? level : Infinity;
        const circle = row.querySelector("circle");
        if (row.dataset.call !== undefined && Number(all[number + 1]?.dataset.level) > level) {
          circle.setAttribute("role", "button");
          circle.setAttribute("tabindex", "0");
          circle.setAttribute("aria-label", "Fold");
          circle.setAttribute("aria-expanded", String(!isFolded));
        }
      });
      const height = rowHeight * shown + 16;
      svg.setAttribute("height", height);
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${height}`);
    }
  }

  function fold(event) {
    const circle = event.target.closest("#graph circle[role]");
    if (circle === null || (event.type === "keydown" && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    const call = circle.closest("g.row").dataset.call;
    if (!folded.delete(call)) folded.add(call);
    draw();
  }

  document.addEventListener("click", fold);
  document.addEventListener("keydown", fold);
  document.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => { pressed = false; setTimeout(apply); });
  }
  document.addEventListener("focusout", () => setTimeout(apply));
  draw();

  let source = null;

  // Close the stream of a hidden page: all pages of a browser share six connections to a server.
  function connect() {
    if (source !== null || document.hidden || document.body.dataset.events === undefined) return;
    source = new EventSource(document.body.dataset.events);
    source.addEventListener("open", () => { state.textContent = "live"; });
    source.addEventListener("failure", (event) => { state.textContent = JSON.parse(event.data); });
    source.addEventListener("error", () => {
      state.textContent = "connecting";
      if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      disconnect();
      setTimeout(connect, retryAfter);
    });
    source.addEventListener("message", (event) => {
      const news = JSON.parse(event.data);
      Object.assign(pending, news.parts);
      order = news.order ?? order;
      state.textContent = "live";
      apply();
    });
  }

  function disconnect() {
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  connect();
})();

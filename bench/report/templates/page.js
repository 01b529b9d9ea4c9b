// Sorting, searching and filtering of tables that are whole without it.
const unpack = (id) => {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

const style = document.createElement("style");
style.textContent = await unpack("bundle-style");
document.head.prepend(style); // before ours, which has the last word
const address = URL.createObjectURL(new Blob([await unpack("bundle-script")], { type: "text/javascript" }));
const { default: DataTable } = await import(address);
URL.revokeObjectURL(address);

// Numbers in either order; what has none stands last in both.
const ordered = (sign) => (a, b) => isNaN(a) - isNaN(b) || sign * (a - b) || 0;
const order = DataTable.ext.type.order;
order["measured-pre"] = (text) => (text === "" ? NaN : Number(text));
order["measured-asc"] = ordered(1);
order["measured-desc"] = ordered(-1);

// A part has a form of controls and tables. Each drop-down is named after a data attribute of the rows or of their section.
const enliven = (part) => {
  const form = part.querySelector("form");
  const choices = [...form.querySelectorAll("select")];
  const shown = (row, section) => choices.every((c) => !c.value || ({ ...section.dataset, ...row.dataset })[c.name] === c.value);
  const tables = [...part.querySelectorAll("table.live")].map((node) => {
    const section = node.closest("section");
    const table = new DataTable(node, {
      paging: false,
      order: [],
      autoWidth: false,
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
      columnDefs: [{ targets: "measured", type: "measured" }],
    });
    table.search.fixed("choices", (text, data, index) => shown(table.row(index).node(), section));
    return { table, section };
  });
  const update = () => {
    let [found, all] = [0, 0];
    for (const { table, section } of tables) {
      table.search(form.elements.search.value);
      table.columns(".more").visible(form.elements.all?.checked ?? true, false);
      table.draw();
      const count = table.rows({ search: "applied" }).count();
      section.classList.toggle("empty", count === 0);
      found += count;
      all += table.rows().count();
    }
    form.querySelector("output").textContent = `${found} of ${all} shown`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  form.hidden = false;
  update();
};

document.querySelectorAll(".part").forEach(enliven);
// Tables have moved since the browser looked for the address, and a note may be folded away.
const reveal = () => {
  const target = document.getElementById(location.hash.slice(1));
  target?.closest("details")?.setAttribute("open", "");
  target?.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();
document.documentElement.dataset.ready = "yes";

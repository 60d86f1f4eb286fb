for (const slider of document.querySelectorAll(".slider")) {
  const frame = slider.querySelector(".frame"), input = slider.querySelector("input");
  const set = () => frame.style.setProperty("--cut", input.value + "%");
  input.addEventListener("input", set);
  set();
}
function drawBlocks() {
  const style = getComputedStyle(document.documentElement);
  for (const canvas of document.querySelectorAll("canvas.blocks")) {
    const { rows, causal } = JSON.parse(canvas.dataset.map);
    const n = rows.length, m = rows[0].length;
    const scale = Math.max(1, Math.floor(840 / Math.max(n, m)));
    canvas.width = m * scale;
    canvas.height = n * scale;
    canvas.style.aspectRatio = `${m} / ${n}`;
    const context = canvas.getContext("2d");
    for (let i = 0; i < n; i++)
      for (let j = 0; j < m; j++) {
        if (causal && j > i + (m - n)) continue;
        context.fillStyle = style.getPropertyValue(rows[i][j] === "1" ? "--keep" : "--skip");
        context.fillRect(j * scale, i * scale, scale - (scale > 4 ? 1 : 0), scale - (scale > 4 ? 1 : 0));
      }
  }
}
drawBlocks();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawBlocks);

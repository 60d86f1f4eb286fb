(() => {
  const root = document.currentScript.parentElement;
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const canvas = root.querySelector("canvas"), ctx = canvas.getContext("2d");
  const play = root.querySelector(".fvp-play"), bar = root.querySelector("input[type=range]");
  const ghost = root.querySelector(".fvp-ghost"), box = ghost.querySelector("input");
  const motion = data.tracks.motion, count = motion.positions.length;
  let yaw = 0.9, pitch = 0.2, time = 0, last = null, drag = null;
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  bar.max = count - 1;
  ghost.hidden = !data.tracks.reference;
  const length = Math.max((count - 1) / data.fps, 1e-6);
  const clock = root.querySelector(".fvp-clock"), dark = matchMedia("(prefers-color-scheme: dark)");
  const bars = [0, 1].map(side => {
    let out = "", start = -1;
    for (let i = 0; i <= count; i++) {
      const on = i < count && (data.contacts || [])[i]?.[side];
      if (on && start < 0) start = i;
      if (!on && start >= 0) {
        const x = 100 * start / (count - 1 || 1), w = Math.max(0.4, 100 * (i - 1 - start) / (count - 1 || 1));
        out += `<rect x="${x}" y="${8 + 3 * side}" width="${w}" height="2" fill="var(--${side ? "right" : "left"})"/>`;
        start = -1;
      }
    }
    return out;
  }).join("");
  root.querySelector("svg").innerHTML = data.keyframes.map(t => {
    const x = Math.min(100, 100 * t / length);
    return `<path d="M${x} 0V6" stroke="currentColor" stroke-width="1.5" vector-effect="non-scaling-stroke"/>`;
  }).join("") + bars;
  const turn = (q, v) => {
    const [w, x, y, z] = q, a = 2 * (y * v[2] - z * v[1]), b = 2 * (z * v[0] - x * v[2]),
      c = 2 * (x * v[1] - y * v[0]);
    return [v[0] + w * a + y * c - z * b, v[1] + w * b + z * a - x * c, v[2] + w * c + x * b - y * a];
  };
  const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
  const color = (name, light, alpha) => {
    const h = name.startsWith("left") ? [210, 65] : name.startsWith("right") ? [22, 70] : [218, 12];
    return `hsla(${h[0]},${h[1]}%,${light}%,${alpha})`;
  };
  const veil = (name, light, alpha) => `hsla(160,45%,${dark.matches ? 62 : 42}%,${alpha})`;
  function draw() {
    const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    if (canvas.width !== Math.round(w * ratio)) canvas.width = Math.round(w * ratio);
    if (canvas.height !== Math.round(h * ratio)) canvas.height = Math.round(h * ratio);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, w, h);
    const f = Math.min(count - 1, Math.round(time * data.fps)), p0 = motion.positions[f][0];
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    const scale = Math.min(h * 1.85, w * 2.1);
    const project = p => {
      const x = p[0] - p0[0], y = p[1] - p0[1], z = p[2] - 0.9;
      const a = x * cy + y * sy, right = y * cy - x * sy;
      const depth = 4.2 - (a * cp + z * sp), k = scale / Math.max(depth, 0.3);
      return [w / 2 + right * k, h / 2 - (z * cp - a * sp) * k, depth, k];
    };
    const stroke = (a, b, width, style) => {
      ctx.beginPath(); ctx.moveTo(a[0], a[1]); ctx.lineTo(b[0], b[1]);
      ctx.lineWidth = width; ctx.strokeStyle = style; ctx.lineCap = "round"; ctx.stroke();
    };
    const gx = Math.round(p0[0] * 2) / 2, gy = Math.round(p0[1] * 2) / 2;
    for (let i = -4; i <= 4; i++) {
      const s = i / 2;
      stroke(project([gx + s, gy - 2, 0]), project([gx + s, gy + 2, 0]), 1, "rgba(128,140,160,.35)");
      stroke(project([gx - 2, gy + s, 0]), project([gx + 2, gy + s, 0]), 1, "rgba(128,140,160,.35)");
    }
    let items = [];
    const paintAll = () => { items.sort((a, b) => b[0] - a[0]).forEach(item => item[1]()); items = []; };
    const collect = (track, alpha, paint) => {
      const i = Math.min(f, track.positions.length - 1);
      for (const s of data.shapes) {
        const p = track.positions[i][s.body], q = track.rotations[i][s.body], name = data.bodies[s.body];
        const at = v => project(add(p, turn(q, add(s.center, turn(s.rotation, v)))));
        if (s.kind === "capsule") {
          const a = at([0, 0, -s.size[1]]), b = at([0, 0, s.size[1]]);
          const width = s.size[0] * (a[3] + b[3]);
          items.push([(a[2] + b[2]) / 2, () => {
            stroke(a, b, width, paint(name, 36, alpha));
            if (alpha < 1) return;
            const o = width * 0.1, m = v => [v[0] - o, v[1] - o];
            stroke(m(a), m(b), width * 0.66, paint(name, 50, alpha));
            stroke(m(m(a)), m(m(b)), width * 0.26, paint(name, 64, alpha * 0.8));
          }]);
        } else {
          for (let axis = 0; axis < 3; axis++) for (const sign of [-1, 1]) {
            const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(c => {
              const v = [0, 0, 0];
              v[axis] = sign * s.size[axis];
              v[(axis + 1) % 3] = c[0] * s.size[(axis + 1) % 3];
              v[(axis + 2) % 3] = c[1] * s.size[(axis + 2) % 3];
              return at(v);
            });
            const n = [0, 0, 0]; n[axis] = sign;
            const light = 42 + 16 * turn(q, n)[2];
            items.push([corners.reduce((t, c) => t + c[2], 0) / 4, () => {
              ctx.beginPath(); corners.forEach(c => ctx.lineTo(c[0], c[1])); ctx.closePath();
              ctx.fillStyle = paint(name, light, alpha); ctx.fill();
            }]);
          }
        }
      }
    };
    // The ghost lies behind the motion, so that it never tints it.
    if (data.tracks.reference && box.checked) { collect(data.tracks.reference, 0.55, veil); paintAll(); }
    collect(motion, 1, color);
    paintAll();
    bar.value = f;
    clock.textContent = `${(f / data.fps).toFixed(2)} / ${length.toFixed(2)} s`;
    play.textContent = playing ? "Pause" : "Play";
  }
  function tick(now) {
    if (!playing) { last = null; return; }
    if (last !== null) time += (now - last) / 1000 * Number(root.querySelector("select").value);
    if (time > length) time = 0;
    last = now; draw(); requestAnimationFrame(tick);
  }
  play.onclick = () => { playing = !playing; draw(); if (playing) requestAnimationFrame(tick); };
  bar.oninput = () => { playing = false; time = bar.value / data.fps; draw(); };
  box.onchange = draw;
  canvas.onpointerdown = e => { drag = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointermove = e => {
    if (!drag) return;
    yaw -= (e.clientX - drag[0]) * 0.01;
    pitch = Math.max(-0.1, Math.min(1.4, pitch + (e.clientY - drag[1]) * 0.01));
    drag = [e.clientX, e.clientY]; draw();
  };
  canvas.onpointerup = canvas.onpointercancel = () => { drag = null; };
  addEventListener("resize", draw);
  dark.addEventListener("change", draw);
  draw();
  if (playing) requestAnimationFrame(tick);
})();

// Judge GLB files by the Khronos validator: one line for each message, status 1 on errors or warnings.
//   npm install --no-save gltf-validator@2.0.0-dev.3.10 && node tools/validate_glb.mjs FILE.glb...
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json')); // from where the command runs
const validator = require('gltf-validator');
const kinds = ['error', 'warning', 'info', 'hint'];
const files = process.argv.slice(2);
if (files.length === 0) {
  console.error('usage: node tools/validate_glb.mjs FILE.glb...');
  process.exit(2);
}
let bad = 0;
for (const file of files) {
  const report = await validator.validateBytes(new Uint8Array(await readFile(file)), { uri: file, maxIssues: 0 });
  const { numErrors, numWarnings, numInfos, numHints, messages } = report.issues;
  bad += numErrors + numWarnings;
  console.log(`${file}: ${numErrors} errors, ${numWarnings} warnings, ${numInfos} infos, ${numHints} hints`);
  for (const { severity, code, message, pointer } of messages) {
    console.log(`  ${kinds[severity]} ${code} ${pointer ?? ''}: ${message}`);
  }
}
console.log(`validator ${validator.version()}`);
process.exit(bad > 0 ? 1 : 0);

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { type NameAttribute, namesIn } from '../../core/asn1/name.ts';
import { readX509 } from '../../core/asn1/x509.ts';
import { type HolderKind, holderKinds, type Slot, slots } from '../../core/model/kinds.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import type { Config } from '../config/config.ts';
import { type Authority, pointAttributes } from '../issue/authority.ts';

// The public page: what a relying party compares before it trusts a CA. It is made of what issues, so that it cannot say anything else.

const mode = 0o644;
/** In the published folder; CRL nodes give it out at `/ca/`, too. */
const pagePath = 'ca/index.html';

const style =
  'body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}' +
  'table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #bbb}' +
  'code{overflow-wrap:anywhere}a{color:#064ea8}';

/** The page, HTML. `authorities` in the order in which it shows them. */
export function publicPage(config: Config, authorities: readonly Authority[]): string {
  const { scheme, ocsp, crl } = config;
  const isWeb = /^https?:\/\//.test(scheme.cpsUri);
  const policies = holderKinds.map((kind) => [kind, code(scheme.policies[kind])]);
  const points = slots.flatMap((slot) =>
    holderKinds
      .filter((kind) => kind.endsWith(slot))
      .map((kind) => [kind, code(pointOf(config, slot, kind))]),
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${text(scheme.organization)}: CA certificates</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${text(scheme.organization)}: CA certificates <span lang="ja">認証局証明書</span></h1>
<p>Compare a fingerprint with one that you have had over another way before you trust a certificate: who can change this page can change both.</p>
${authorities.map(section).join('\n')}
<h2>Certificate policies <span lang="ja">証明書ポリシー</span></h2>
${table(['certificate', 'policy'], policies)}
<p>CPS: ${isWeb ? `<a href="${text(scheme.cpsUri)}">${text(scheme.cpsUri)}</a>` : code(scheme.cpsUri)}</p>
<h2>CRL distribution points <span lang="ja">CRL 配布点</span></h2>
<p>Each certificate names the one CRL that it would be in. G is the generation of the CA, S the number of the shard.</p>
${table(['certificate', 'name'], points)}
<p>OCSP: <code>${text(ocsp.publicUrl)}</code> · CRLs: <code>${text(crl.publicUrl)}</code>. ${
    ocsp.verifiers.required || crl.verifiers.required
      ? 'They answer notified verifiers, at addresses of their own.'
      : 'They answer everyone.'
  }</p>
</main>
</body>
</html>
`;
}

/** Publishes the page where it is not what is published. */
export function placePublicPage(folder: string, page: string): void {
  const file = join(folder, pagePath);
  if (existsSync(file) && readFileSync(file, 'utf8') === page) return;
  mkdirSync(dirname(file), { recursive: true });
  replaceDurably(file, Buffer.from(page), mode);
}

function section({ name, slot, generation, certificate }: Authority): string {
  const { validFromDate, validToDate, publicKey } = readX509(certificate);
  const { modulusLength, namedCurve } = publicKey.asymmetricKeyDetails ?? {};
  const rows = [
    [
      'subject',
      code(written(namesIn(parseCertificate(certificate).subject).map(({ type, value }) => [type, value]))),
    ],
    ['for', `${slot} certificates, generation ${generation}`],
    ['valid', `${validFromDate.toISOString()} to ${validToDate.toISOString()}`],
    [
      'key',
      text(`${String(publicKey.asymmetricKeyType).toUpperCase()} ${modulusLength ?? namedCurve ?? ''}`),
    ],
    ['SHA-256', code(pairs(hex(digest('sha256', certificate))))],
  ];
  return `<h2>${text(name)}</h2>
<p><a href="${text(name)}.cer">${text(name)}.cer</a> (DER)</p>
${table(['field', 'value'], rows)}`;
}

/** The name of the distribution points of a kind, with what differs between them in angle brackets. */
function pointOf(config: Config, slot: Slot, kind: HolderKind): string {
  const town = { prefecture: '<prefecture>', municipality: '<municipality>' };
  const attributes = pointAttributes(config, slot, { kind, generation: '<G>', number: '<S>', town });
  return written(attributes);
}

const written = (attributes: readonly NameAttribute[]): string =>
  attributes.map(([type, value]) => `${type}=${value}`).join(', ');

/** `cells` are HTML; the first one names its row. */
function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = heads.map((each) => `<th scope="col">${each}</th>`).join('');
  const body = rows.map(
    ([first, ...others]) =>
      `<tr><th scope="row">${first}</th>${others.map((each) => `<td>${each}</td>`).join('')}</tr>`,
  );
  return `<table><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const text = (plain: string): string => plain.replaceAll(/[&<>"]/g, (each) => entities[each] ?? each);
const code = (plain: string): string => `<code>${text(plain)}</code>`;
const pairs = (octets: string): string => octets.toUpperCase().match(/../g)?.join(':') ?? '';

import type { DerReader } from '../../core/asn1/der-reader.ts';
import { context, explicit, utf8String } from '../../core/asn1/der-writer.ts';
import { versionPattern } from '../../core/model/device.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from './signed-content.ts';

/**
 * What a phone is now, the eContent of a CMS SignedData made with its authentication key:
 *
 *     DeviceReport ::= SEQUENCE {
 *       version        INTEGER (1),
 *       operation      UTF8String ("device-report"),
 *       certificate    OCTET STRING,             -- SHA-256 of the certificate whose key signs
 *       challenge      OCTET STRING,             -- the server's, single use
 *       osVersion      UTF8String,
 *       patchLevel     UTF8String,               -- empty where the platform has none
 *       appletVersion  [0] UTF8String OPTIONAL,  -- without it: as it was said before
 *       appVersion     [1] UTF8String OPTIONAL }
 */
export interface DeviceReport extends SignedContent {
  readonly osVersion: string;
  /** `YYYY-MM`, `YYYY-MM-DD`, or empty. */
  readonly patchLevel: string;
  readonly appletVersion: string | null;
  readonly appVersion: string | null;
}

const operation = 'device-report';
const version = new RegExp(versionPattern);
const patch = /^([0-9]{4}-[0-9]{2}(-[0-9]{2})?)?$/;

export const encodeDeviceReport = ({
  osVersion,
  patchLevel,
  appletVersion,
  appVersion,
  ...head
}: DeviceReport): Bytes =>
  encodeSignedContent(
    operation,
    head,
    utf8String(osVersion),
    utf8String(patchLevel),
    ...(appletVersion === null ? [] : [explicit(0, utf8String(appletVersion))]),
    ...(appVersion === null ? [] : [explicit(1, utf8String(appVersion))]),
  );

/** Throws `DerError` where the octets are no DeviceReport. */
export const parseDeviceReport = (der: Bytes): DeviceReport =>
  parseSignedContent(
    der,
    { name: 'DeviceReport', operations: [operation] },
    (body, { certificate, challenge }) => {
      const osVersion = versionIn(body, 'osVersion');
      const patchLevel = body.utf8String();
      if (!patch.test(patchLevel)) body.fail('patchLevel: neither YYYY-MM nor YYYY-MM-DD, nor empty');
      const appletVersion = optionalVersion(body, 0, 'appletVersion');
      const appVersion = optionalVersion(body, 1, 'appVersion');
      return { certificate, challenge, osVersion, patchLevel, appletVersion, appVersion };
    },
  );

/** Of what cannot be compared it would not be known whether a restriction is about it. */
function versionIn(reader: DerReader, name: string): string {
  const text = reader.utf8String();
  return version.test(text) ? text : reader.fail(`${name}: not numbers separated by dots`);
}

function optionalVersion(body: DerReader, n: number, name: string): string | null {
  if (body.peek() !== context(n)) return null;
  const reader = body.enter(context(n));
  const text = versionIn(reader, name);
  reader.end();
  return text;
}

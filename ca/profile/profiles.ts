import { oid } from '../../core/asn1/oids.ts';
import type { CertificateKind } from '../../core/model/kinds.ts';

/** The extensions this project can write; `certificate.ts` has one encoder for each. */
export const extensionNames = [
  'keyUsage',
  'extKeyUsage',
  'subjectAltName',
  'basicConstraints',
  'certificatePolicies',
  'issuerAltName',
  'cRLDistributionPoints',
  'authorityInfoAccess',
  'authorityKeyIdentifier',
  'subjectKeyIdentifier',
  'ocspNoCheck',
] as const;
export type ExtensionName = (typeof extensionNames)[number];

export interface Profile {
  readonly kind: ProfileKind;
  /** KeyUsage bit numbers (RFC 5280 §4.2.1.3). */
  readonly keyUsage: readonly number[];
  readonly extKeyUsage: string | null;
  /** In the order in which they stand in the certificate. */
  readonly extensions: readonly ExtensionName[];
}

export type ProfileKind = CertificateKind | 'operations-authority' | 'tls-server' | 'tls-client';

const digitalSignature = 0;
const nonRepudiation = 1;
const keyCertSign = 5;
const cRLSign = 6;

/** Extensions of every holder's certificate, in order, behind its own. */
const ofHolders = [
  'certificatePolicies',
  'issuerAltName',
  'cRLDistributionPoints',
  'authorityInfoAccess',
  'authorityKeyIdentifier',
  'subjectKeyIdentifier',
] as const;

const signing = {
  keyUsage: [digitalSignature, nonRepudiation],
  extKeyUsage: null,
  extensions: ['keyUsage', 'subjectAltName', ...ofHolders],
} as const;

const authentication = {
  keyUsage: [digitalSignature],
  extKeyUsage: oid.clientAuth,
  extensions: ['keyUsage', 'extKeyUsage', ...ofHolders],
} as const;

const authority = { keyUsage: [keyCertSign, cRLSign], extKeyUsage: null } as const;

const tls = {
  keyUsage: [digitalSignature],
  extensions: ['keyUsage', 'extKeyUsage', 'subjectAltName', 'authorityKeyIdentifier', 'subjectKeyIdentifier'],
} as const;

/** The profiles as data: what each kind of certificate carries, field by field and in order. */
export const profiles: { readonly [K in ProfileKind]: Profile & { readonly kind: K } } = {
  'card-signing': { kind: 'card-signing', ...signing },
  'card-authentication': { kind: 'card-authentication', ...authentication },
  'phone-signing': { kind: 'phone-signing', ...signing },
  'phone-authentication': { kind: 'phone-authentication', ...authentication },
  authority: {
    kind: 'authority',
    ...authority,
    extensions: [
      'keyUsage',
      'subjectAltName',
      'basicConstraints',
      'cRLDistributionPoints',
      'subjectKeyIdentifier',
    ],
  },
  'authority-link': {
    kind: 'authority-link',
    ...authority,
    extensions: [
      'keyUsage',
      'subjectAltName',
      'basicConstraints',
      'cRLDistributionPoints',
      'authorityInfoAccess',
      'authorityKeyIdentifier',
      'subjectKeyIdentifier',
    ],
  },
  'ocsp-responder': {
    kind: 'ocsp-responder',
    keyUsage: [digitalSignature],
    extKeyUsage: oid.ocspSigning,
    extensions: ['keyUsage', 'extKeyUsage', 'ocspNoCheck', 'authorityKeyIdentifier', 'subjectKeyIdentifier'],
  },
  'operations-authority': {
    kind: 'operations-authority',
    ...authority,
    extensions: ['keyUsage', 'basicConstraints', 'subjectKeyIdentifier'],
  },
  'tls-server': { kind: 'tls-server', ...tls, extKeyUsage: oid.serverAuth },
  'tls-client': {
    kind: 'tls-client',
    ...tls,
    extKeyUsage: oid.clientAuth,
    extensions: tls.extensions.filter((name) => name !== 'subjectAltName'),
  },
};

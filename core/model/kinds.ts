/** The two purposes a medium carries a certificate for. */
export type Slot = 'signing' | 'authentication';
export const slots = ['signing', 'authentication'] as const satisfies readonly Slot[];

export type MediumType = 'card' | 'phone';

/** The four certificates of the scheme. */
export type HolderKind = 'card-signing' | 'card-authentication' | 'phone-signing' | 'phone-authentication';
export const holderKinds = [
  'card-signing',
  'card-authentication',
  'phone-signing',
  'phone-authentication',
] as const satisfies readonly HolderKind[];

/** Everything an authority issues and records. */
export type CertificateKind = HolderKind | 'authority' | 'authority-link' | 'ocsp-responder';

export const kindOf = (medium: MediumType, slot: Slot): HolderKind => `${medium}-${slot}`;
export const slotOf = (kind: HolderKind): Slot => (kind.endsWith('-signing') ? 'signing' : 'authentication');

/** A generation of an authority is one key: `signing-1`. */
export const authorityName = (slot: Slot, generation: number): string => `${slot}-${generation}`;

/** Of which certificates an authority is. */
export const slotOfAuthority = (name: string): Slot | undefined =>
  slots.find((slot) => name.startsWith(`${slot}-`));

/** A link is called by whose key it certifies, and by which generation: `signing-2-by-1`. */
export const linkName = (subject: string, issuerGeneration: number): string =>
  `${subject}-by-${issuerGeneration}`;
export const isLinkName = (name: string): boolean =>
  /^(signing|authentication)-[1-9][0-9]{0,3}-by-[1-9][0-9]{0,3}$/.test(name);

/** Whether a name is one that authorities have: what a peer sends names files and log entries. */
export const isAuthorityName = (name: string): boolean =>
  /^(signing|authentication)-[1-9][0-9]{0,3}$/.test(name);
